"""What predictors are trained on, and what a training left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.fingerprint import Json
from matwheel.flywheel.ledger import StageResult
from matwheel.flywheel.trainers import BEST


@dataclass(frozen=True)
class LabelledCrystals:
    """Synthetic crystals.

    Attributes:
        table: The crystals; their target is their label.
        key: Identity of crystals and labels.
    """

    table: CrystalTable
    key: str


@dataclass(frozen=True)
class Mixture:
    """What one predictor is trained on.

    Attributes:
        data: The training set, with the rows to validate and test on.
        n_real: Real training crystals, repeats counted.
        n_synthetic: Synthetic training crystals, now or in the training it starts from.
        config: Settings of the mixture.
        inputs: Keys of what it was made of.
        start: Weights to start from; the untrained ones by default.
    """

    data: CrystalDataModule
    n_real: int
    n_synthetic: int
    config: dict[str, Json]
    inputs: dict[str, str]
    start: Path | None = None


@dataclass(frozen=True)
class TrainedArm:
    """A trained predictor.

    Attributes:
        stage: What its training left.
        n_real: See `Mixture`.
        n_synthetic: See `Mixture`.
    """

    stage: StageResult
    n_real: int
    n_synthetic: int

    @property
    def checkpoint(self) -> Path:
        """Its best weights."""
        return self.stage.folder / BEST
