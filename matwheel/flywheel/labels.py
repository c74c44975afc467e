"""Where the labels of crystals come from that nobody has measured or computed: synthetic ones, unlabelled ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.files import read_parquet, replaced_when_complete
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.predictor import Fitted, Predictor

LABELS = "labels.parquet"


@dataclass(frozen=True)
class Teacher:
    """What a labeller may ask.

    Attributes:
        target: The property.
        labelled: Real training crystals whose label is known.
        members: Prediction [k, n] of each of k teaching predictors for n crystals, user's units: in the first round
            those trained on `labelled`, later those of the last arm of the round before.
        fitted: A predictor among the labeller's `predictors`, fitted to `labelled`.
        seed: Of whatever is random.
    """

    target: str
    labelled: CrystalTable
    members: Callable[[CrystalTable], FloatArray]
    fitted: Callable[[Predictor], Fitted]
    seed: int

    def predict(self, crystals: CrystalTable) -> FloatArray:
        """[n], the mean prediction of the teaching predictors, user's units."""
        mean: FloatArray = self.members(crystals).mean(axis=0)
        return mean


class Labeller(ABC):
    """Gives crystals their labels.

    Attributes:
        uses_condition: Whether crystals must have been generated with the target as a condition.
        uses_predictor: Whether the teaching predictors are needed.
        predictors: Predictors that are needed beside the trainer's own model.
    """

    uses_condition = False
    uses_predictor = False
    predictors: Sequence[Predictor] = ()

    @abstractmethod
    def label(self, crystals: CrystalTable, teacher: Teacher) -> FloatArray:
        """Label crystals.

        Args:
            crystals: n crystals; a synthetic one has the conditions it was generated under as properties.
            teacher: What may be asked.

        Returns:
            [n], user's units.
        """


class ConditionLabels(Labeller):
    """The condition that a synthetic crystal was generated under."""

    uses_condition = True

    def label(self, crystals: CrystalTable, teacher: Teacher) -> FloatArray:
        """See `Labeller.label`."""
        return crystals.properties[teacher.target]


class PredictorLabels(Labeller):
    """The mean prediction of the teaching predictors."""

    uses_predictor = True

    def label(self, crystals: CrystalTable, teacher: Teacher) -> FloatArray:
        """See `Labeller.label`."""
        return teacher.predict(crystals)


class ModelLabels(Labeller):
    """The prediction of any predictor, fitted to the labelled real crystals.

    Args:
        predictor: Labels; trees on composition and cell by default.
    """

    def __init__(self, predictor: Predictor | None = None) -> None:
        self.predictors = (predictor if predictor is not None else FeaturePredictor(),)

    def label(self, crystals: CrystalTable, teacher: Teacher) -> FloatArray:
        """See `Labeller.label`."""
        return teacher.fitted(self.predictors[0])(crystals)


class MeanLabels(Labeller):
    """The mean of what several labellers say.

    Args:
        parts: The labellers; condition and predictor by default.
    """

    def __init__(self, parts: Sequence[Labeller] | None = None) -> None:
        self.parts = list(parts) if parts is not None else [ConditionLabels(), PredictorLabels()]
        if not self.parts:
            raise ValueError("a mean of labels needs at least one labeller among its parts")
        self.uses_condition = any(part.uses_condition for part in self.parts)
        self.uses_predictor = any(part.uses_predictor for part in self.parts)
        self.predictors = [predictor for part in self.parts for predictor in part.predictors]

    def label(self, crystals: CrystalTable, teacher: Teacher) -> FloatArray:
        """See `Labeller.label`."""
        mean: FloatArray = np.mean([part.label(crystals, teacher) for part in self.parts], axis=0)
        return mean


def write_labels(folder: Path, crystals: CrystalTable, labels: FloatArray) -> dict[str, float]:
    """Write `labels.parquet`, id and label of each crystal, and return their range.

    Raises:
        ValueError: If a label is not finite; names the crystals.
    """
    missing = crystals.ids[~np.isfinite(labels)].tolist()
    if missing:
        raise ValueError(
            f"the labeller has no finite label for {len(missing)} crystals, such as {', '.join(missing[:5])}: choose "
            "another one, or look at the training of the predictor"
        )
    with replaced_when_complete(folder / LABELS) as temporary:
        pd.DataFrame({"id": crystals.ids, "label": labels}).to_parquet(temporary, index=False)
    return {"count": len(labels), "min": labels.min(), "median": float(np.median(labels)), "max": labels.max()}


def read_labels(folder: Path) -> FloatArray:
    """[n], what `write_labels` wrote."""
    labels: FloatArray = read_parquet(folder / LABELS)["label"].to_numpy(dtype=np.float64)
    return labels
