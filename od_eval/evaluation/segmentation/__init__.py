"""Semantic segmentation: class maps and scores in, metrics out."""
