"""Metrics of predictions and of generated crystals."""
