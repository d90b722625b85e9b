"""The room that talks to the Object Detection API; nothing else in this package imports `object_detection`.

Importing it makes the Object Detection API importable on current TensorFlow (see `compat`).
"""

from od_eval.odapi import compat

compat.install()
