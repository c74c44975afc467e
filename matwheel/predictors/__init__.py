"""Predictors beside the trainer's own model, which the wheel trains in every arm."""
