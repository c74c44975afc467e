"""Matwheel: a data flywheel for materials property prediction."""

__version__ = "0.1.0"
