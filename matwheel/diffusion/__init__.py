"""Noise processes and samplers; they know nothing of networks or files."""
