"""How TensorBoard finds the page: the entry point `tensorboard_plugins` of setup.py names `DetectionsLoader`.

An error while this module is imported would be the end of all of TensorBoard, and its imports are time that every start
of TensorBoard takes. So it imports nothing but TensorBoard's base class.
"""

from __future__ import annotations

import sys

from tensorboard.plugins import base_plugin


class DetectionsLoader(base_plugin.TBLoader):
    """Loads the page; if that fails, TensorBoard starts without it."""

    def load(self, context: base_plugin.TBContext) -> base_plugin.TBPlugin | None:
        try:
            from od_eval.plugin.server import DetectionsPlugin

            return DetectionsPlugin(context)
        except Exception as error:
            print(
                f"warning: the page Detections could not be loaded ({type(error).__name__}: {error}).",
                file=sys.stderr,
                flush=True,
            )
            return None
