"""Training crystals that generated ones are modelled on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn


class Template(NamedTuple):
    """Crystals as an autoencoder knows them.

    Attributes:
        names: [n, L], of `encode_names` for all crystals together.
        num_atoms: [n], sums to N.
        atomic_numbers: [N].
        frac_coords: [N, 3].
        cell_error: [n, 6], standardised parameters of the cell less what is decoded from the crystal's own latent.
    """

    names: UInt8[Tensor, "n length"]
    num_atoms: Int[Tensor, " n"]
    atomic_numbers: Int[Tensor, " atoms"]
    frac_coords: Float[Tensor, "atoms 3"]
    cell_error: Float[Tensor, "n 6"]

    @property
    def ids(self) -> list[str]:
        """[n], names of the crystals."""
        names = self.names.cpu().contiguous().numpy()
        return [bytes(name).rstrip(b"\0").decode() for name in names]


def encode_names(ids: Sequence[str]) -> UInt8[Tensor, "n length"]:
    """Names as a tensor, which a checkpoint can hold: UTF-8, filled up with zeros."""
    encoded = np.array([name.encode() for name in ids])
    return torch.from_numpy(encoded.view(np.uint8).reshape(len(ids), -1).copy())


class Templates(nn.Module):
    """Sites of the training crystals, and what a decoder gets wrong about their cells; kept in the checkpoint.

    A decoder that has seen a few hundred crystals knows what they are made of better than where atoms sit to a tenth of
    an angstrom. A crystal that takes the sites and the cell of the training crystal which it resembles, both changed as
    the decoder says, is as smooth as that one.
    """

    names: Tensor
    num_atoms: Tensor
    atomic_numbers: Tensor
    frac_coords: Tensor
    cell_error: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("names", torch.zeros(0, 1, dtype=torch.uint8))
        self.register_buffer("num_atoms", torch.zeros(0, dtype=torch.long))
        self.register_buffer("atomic_numbers", torch.zeros(0, dtype=torch.long))
        self.register_buffer("frac_coords", torch.zeros(0, 3))
        self.register_buffer("cell_error", torch.zeros(0, 6))

    @torch.inference_mode(False)  # what is kept must be loadable over afterwards
    def fit(self, crystals: Iterable[Template]) -> None:
        """Take over the training crystals, some after others."""
        device = self.cell_error.device
        for name, parts in zip(Template._fields, zip(*crystals, strict=True), strict=True):
            setattr(self, name, torch.cat([part.clone() for part in parts]).to(device))

    def take(self, rows: Int[Tensor, " n"]) -> Template:
        """Templates, any of them any number of times."""
        num_atoms = self.num_atoms[rows]
        before = (self.num_atoms.cumsum(0) - self.num_atoms)[rows] - (num_atoms.cumsum(0) - num_atoms)
        atoms = torch.arange(int(num_atoms.sum()), device=rows.device) + before.repeat_interleave(num_atoms)
        atom_columns = self.atomic_numbers[atoms], self.frac_coords[atoms]
        return Template(self.names[rows], num_atoms, *atom_columns, self.cell_error[rows])

    def make_room(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Take the sizes of what is about to be loaded."""
        for name in Template._fields:
            given, own = state.get(prefix + name), getattr(self, name)
            if given is not None and (name == "names" or given.shape[1:] == own.shape[1:]):
                setattr(self, name, own.new_empty(given.shape))
