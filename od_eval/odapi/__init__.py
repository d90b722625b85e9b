"""The interface to the Object Detection API; no other part of this package imports `object_detection`.

Importing it makes the Object Detection API importable on current TensorFlow (see `compat`).
"""

from od_eval.odapi import compat

compat.install()
