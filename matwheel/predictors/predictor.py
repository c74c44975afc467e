"""What a predictor is: labelled crystals in, a function from crystals to a property out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.targets import TransformKind

if TYPE_CHECKING:
    from matwheel.flywheel.trainers import StageTrainers


class NotPortableError(ValueError):
    """A fitted predictor cannot be written to a file of its own; says why."""


class Fitted(ABC):
    """A predictor after its fit: deterministic, and blind to the crystals' own properties.

    `predictor_file` can write it if its attributes are numbers, texts, arrays, estimators of scikit-learn, `Features`,
    others of its kind, or containers of these.
    """

    @abstractmethod
    def __call__(self, table: CrystalTable) -> FloatArray:
        """[n], the property of each of n crystals, user's units."""

    def to(self, device: torch.device) -> Fitted:
        """The same predictor with its networks on a device."""
        return self

    def portable(self) -> Fitted:
        """The same predictor as one that can be written.

        Raises:
            NotPortableError: If there is none.
        """
        return self


class Labelled(NamedTuple):
    """What a predictor learns from, or is chosen on.

    Attributes:
        table: n crystals; repeats are allowed.
        target: [n], user's units.
        weight: [n], of each crystal in the loss: 1 for a real one, synthetic ones may have less.
    """

    table: CrystalTable
    target: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class Fitting:
    """What a fit may use beside the data.

    Attributes:
        seed: Of whatever is random; the same for every arm.
        folder: Where files may be left. The next attempt after an interruption finds them, and so does a later fit to
            the same crystals, which should cost little then. What was fitted neither reads nor writes there: the folder
            may be renamed when `fit` has returned.
        trainers: Make trainers of networks, on the hardware that the wheel runs on.
        writes: Whether this process may write files: one of all.
        members: The trainer's own model, fitted to the same crystals under as many seeds as the predictor's
            `num_members`.
        parts: The predictor's `parts`, fitted to the same crystals.
    """

    seed: int
    folder: Path
    trainers: StageTrainers
    writes: bool = True
    members: Sequence[Fitted] = ()
    parts: Sequence[Fitted] = ()


class Predictor(ABC):
    """Learns a property from labelled crystals; a class named in YAML. Its attributes are settings and nothing else.

    Attributes:
        num_members: How many of the trainer's own models, fitted under different seeds, it needs.
        parts: Other predictors that it needs; what is part of several is fitted once.
        transform: Kind of the transform to a scale on which its errors are alike, for intervals.
        distributed: Whether all processes must fit and predict together, as those that train networks must; else the
            first process does it alone.
    """

    num_members: int = 0
    parts: Sequence[Predictor] = ()
    transform: TransformKind = "log"
    distributed: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The column `predictor` of the results; no other predictor of the run has it."""

    @abstractmethod
    def fit(self, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        """Learn from labelled crystals; the predictor itself stays as it is.

        Args:
            training: What is learned from.
            validation: For choices only, such as when to stop or which of several settings is best.
            context: Seed, folder, hardware.
        """

    def held_out(self, fitted: Fitted, validation: Labelled) -> FloatArray:
        """[n], what a fit says of its n validation rows, for their error and for intervals.

        A predictor that fits numbers to validation rows must say here what it would say without having seen them.
        """
        return fitted(validation.table)
