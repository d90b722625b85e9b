"""Models as they are deployed: one interface for SavedModels, TensorFlow Lite models and checkpoints."""
