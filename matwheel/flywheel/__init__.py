"""The loop: train, generate, retrain, compare."""
