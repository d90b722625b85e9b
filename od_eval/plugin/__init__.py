"""The page "Detections" of TensorBoard: the errors behind the curves."""
