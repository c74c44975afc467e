"""What every decoder gives back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DecoderOutput(NamedTuple):
    """What a decoder says about each atom.

    Attributes:
        vectors: [N, 3], Cartesian, turning with the lattice; the unit is the caller's.
        type_logits: [N, 100], column a is atomic number a + 1; None if the types are given and stay.
    """

    vectors: Tensor
    type_logits: Tensor | None
