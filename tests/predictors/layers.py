"""Layers for tests of features."""

import numpy as np

from matwheel.data.crystal import Crystal

A = 2.46  # A, of graphene


def graphene(vacuum: float = 20.0, number: int = 6) -> Crystal:
    lattice = np.array([[A, 0, 0], [-A / 2, A * np.sqrt(3) / 2, 0], [0, 0, vacuum]])
    return Crystal("graphene", lattice, np.array([[0, 0, 0.4], [1 / 3, 2 / 3, 0.4]]), np.array([number, number]))
