"""A trained generator from its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from matwheel.data.conditions import ConditionDataModule
from matwheel.data.crystal import CrystalTable
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.trained import TrainedModel, model_file
from matwheel.models.unpack import Provenance

ConditionValues: TypeAlias = float | Sequence[float] | Sequence[Sequence[float]]


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
                as in `condition_names`.
            n: How many crystals.
            seed: Sample i uses the seed `seed + i`.
            progress: Show a progress bar.

        Raises:
            ValueError: If a row has another number of values than the generator has conditions.
        """
        names = self.model.condition_names
        rows = [list(row) if isinstance(row, Sequence) else [row] for row in _as_list(values)]
        if any(len(row) != len(names) for row in rows):
            raise ValueError(f"this generator has the conditions {names}: give one value for each, not {values!r:.100}")
        provenance = Provenance(self.model.weights_hash())
        requests = ConditionDataModule(rows, n, seed).predict_dataloader()
        return CrystalTable.concatenate(
            [self.model.sample(chunk.conditions, chunk.seed, chunk.index, provenance, progress) for chunk in requests]
        )


def _as_list(values: ConditionValues) -> Sequence[float | Sequence[float]]:
    return values if isinstance(values, Sequence) else [values]
