"""A trained generator from its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch

from matwheel.data.conditions import ConditionDataModule
from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.trained import TrainedModel, model_file
from matwheel.models.unpack import Provenance

ConditionValues: TypeAlias = "float | Sequence[float] | Sequence[Sequence[float]] | FloatArray | pd.Series[float]"


@dataclass(frozen=True)
class SavedGenerator:
    """A trained generator.

    Attributes:
        model: In evaluation mode.
    """

    model: LatentPrior

    @classmethod
    def load(cls, path: Path, config: Path | None = None) -> SavedGenerator:
        """Read a generator; nothing in its files is executed.

        Args:
            path: Checkpoint of its latent prior, or an exported folder.
            config: `config.yaml` of the run; found by `find_config` by default.

        Raises:
            ValueError: If a file cannot be read, or is of something else.
        """
        return cls(TrainedModel.load(model_file(path), LatentPrior, config).model)  # type: ignore[type-abstract]

    def to(self, device: torch.device) -> SavedGenerator:
        """The same generator on a device."""
        return SavedGenerator(self.model.to(device))

    def sample(self, values: ConditionValues, n: int, seed: int = 0, progress: bool = False) -> CrystalTable:
        """Generate n crystals, the same as `predict` of the command line with the same requests.

        Args:
            values: Wanted values in the user's units, taken in turn; with several conditions a row each, with columns
                as in `condition_names`; NaN for a condition that is left to the generator, if it was trained so.
            n: How many crystals.
            seed: Sample i uses the seed `seed + i`.
            progress: Show a progress bar.

        Raises:
            ValueError: See `requested`.
        """
        requests = ConditionDataModule(self.requested(values, n), n, seed)
        return CrystalTable.concatenate(list(self.sample_chunks(requests, progress)))

    def sample_chunks(self, requests: ConditionDataModule, progress: bool = False) -> Iterator[CrystalTable]:
        """Generate crystals, a chunk of them at a time.

        Args:
            requests: What to generate.
            progress: Show a progress bar for each chunk.
        """
        provenance = Provenance(self.model.weights_hash())
        for chunk in requests.predict_dataloader():
            yield self.model.sample(chunk.conditions, chunk.seed, chunk.index, provenance, progress)

    def requested(self, values: ConditionValues, n: int) -> list[list[float]]:
        """Wanted values as rows, one value for each condition.

        Args:
            values: See `sample`.
            n: How many crystals.

        Raises:
            ValueError: If these are no numbers, a row has another number of values than the generator has conditions,
                or no crystal is asked for.
        """
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"n is how many crystals to make: give a whole number from 1 on, not {n!r}")
        names = self.model.condition_names
        try:
            rows = np.atleast_1d(values)
        except ValueError as error:
            raise ValueError(f"give every crystal as many values as the others, not {values!r:.100}") from error
        if rows.dtype.kind not in "biuf":
            raise ValueError(f"the values of {names} are numbers, not {values!r:.100}")
        if rows.ndim == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or rows.shape[1] != len(names):
            raise ValueError(f"this generator has the conditions {names}: give one value for each, not {values!r:.100}")
        return [[float(value) for value in row] for row in rows]
