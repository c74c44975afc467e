"""From sampled tensors to a table of crystals whose origin is on record."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from matwheel.data.crystal import CrystalTable, wrap
from matwheel.diffusion.samplers import Atoms, Cells


@dataclass(frozen=True)
class Provenance:
    """What made synthetic crystals.

    Attributes:
        checkpoint: Hash of the generator's checkpoint.
        round: Round of the flywheel.
    """

    checkpoint: str
    round: int = 0


def unpack_crystals(
    atoms: Atoms,
    cells: Cells,
    index: Tensor,
    condition_names: list[str],
    conditions: Tensor,
    provenance: Provenance,
    parents: Sequence[str] | None = None,
) -> CrystalTable:
    """A table of the sampled crystals.

    Args:
        atoms: All atoms, crystal after crystal.
        cells: The cells that they fill.
        index: [n], place of each crystal in the whole set of requests.
        condition_names: Names of the conditions; each becomes a property of the crystals.
        conditions: [n, C], user's units; NaN where not given, which the origin then leaves out.
        provenance: Recorded in every crystal's origin, with its seed, index and conditions.
        parents: [n], names of the known crystals that these are modelled on, recorded as well.

    Raises:
        ValueError: If the numbers of atoms do not add up.
    """
    num_atoms = cells.num_atoms.cpu().numpy().astype(np.int64)
    if num_atoms.sum() != len(atoms.atomic_numbers):
        raise ValueError(f"{len(atoms.atomic_numbers)} atoms do not fill cells of {num_atoms.sum()} atoms")
    # The shortest decimal that rounds to the same float32: 10.1 stays 10.1.
    values = [[float(str(value)) for value in row] for row in conditions.cpu().numpy()]
    named = [{name: v for name, v in zip(condition_names, row, strict=True) if not math.isnan(v)} for row in values]
    seeds, indices = cells.seeds.tolist(), index.tolist()
    origins = [
        json.dumps(
            {
                "generator": provenance.checkpoint,
                **({"parent": parents[row]} if parents is not None else {}),
                "seed": seed,
                "index": position,
                "conditions": condition,
                "round": provenance.round,
            }
        )
        for row, (seed, position, condition) in enumerate(zip(seeds, indices, named, strict=True))
    ]
    ids = [f"syn-{provenance.round}-{seed}-{position}" for seed, position in zip(seeds, indices, strict=True)]
    return CrystalTable(
        ids=np.array(ids, dtype=np.str_),
        num_atoms=num_atoms,
        lattices=cells.lattice.cpu().numpy().astype(np.float64),
        frac_coords=wrap(atoms.frac_coords.cpu().numpy().astype(np.float64)),
        atomic_numbers=atoms.atomic_numbers.cpu().numpy().astype(np.int64),
        properties={
            name: np.array([row[column] for row in values], dtype=np.float64)
            for column, name in enumerate(condition_names)
        },
        origins=np.array(origins, dtype=np.str_),
    )
