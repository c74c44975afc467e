"""Crystals in: tables, data sets, splits, periodic neighbours, graph cache and the data module."""
