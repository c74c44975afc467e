from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.flywheel.labels import (
    ConditionLabels,
    Labeller,
    MeanLabels,
    ModelLabels,
    PredictorLabels,
    Teacher,
    read_labels,
    write_labels,
)
from matwheel.predictors.median import Median
from matwheel.predictors.predictor import Fitted, Predictor
from tests.models.toys import toy_crystals


def _teacher(members: Callable[[CrystalTable], FloatArray] | None = None) -> Teacher:
    def refuse(crystals: CrystalTable) -> FloatArray:
        raise AssertionError("nobody asked the predictors")

    def fitted(predictor: Predictor) -> Fitted:
        return lambda table: np.full(len(table), float(len(predictor.name)))

    return Teacher("dielectric", toy_crystals(20, seed=1), members or refuse, fitted, seed=3)


def test_condition_and_predictor() -> None:
    crystals = toy_crystals(5)
    asked = crystals.properties["dielectric"]
    np.testing.assert_array_equal(ConditionLabels().label(crystals, _teacher()), asked)
    teacher = _teacher(lambda table: np.stack([table.num_atoms * 1.0, table.num_atoms * 3.0]))
    predicted = crystals.num_atoms * 2.0  # the mean of two teachers
    np.testing.assert_array_equal(PredictorLabels().label(crystals, teacher), predicted)
    np.testing.assert_allclose(MeanLabels().label(crystals, teacher), (asked + predicted) / 2)


def test_any_predictor_may_label() -> None:
    crystals = toy_crystals(6)
    np.testing.assert_array_equal(ModelLabels(Median()).label(crystals, _teacher()), [5.0] * 6)
    assert [predictor.name for predictor in ModelLabels().predictors] == ["trees"]
    assert [predictor.name for predictor in MeanLabels([ModelLabels(Median()), ModelLabels()]).predictors] == [
        "dummy",
        "trees",
    ]


@pytest.mark.parametrize(
    ("labeller", "condition", "predictor"),
    [
        (ConditionLabels(), True, False),
        (PredictorLabels(), False, True),
        (ModelLabels(), False, False),
        (MeanLabels(), True, True),
        (MeanLabels([ModelLabels(), PredictorLabels()]), False, True),
        (MeanLabels([MeanLabels([ModelLabels()])]), False, False),
    ],
)
def test_labellers_say_what_they_need(labeller: Labeller, condition: bool, predictor: bool) -> None:
    assert (labeller.uses_condition, labeller.uses_predictor) == (condition, predictor)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one labeller"):
        MeanLabels([])


def test_labels_survive_a_round_trip(tmp_path: Path) -> None:
    labels = np.array([1 / 3, 1e-300, -12345.678901234567])
    metrics = write_labels(tmp_path, toy_crystals(3), labels)
    np.testing.assert_array_equal(read_labels(tmp_path), labels)
    assert (metrics["count"], metrics["min"], metrics["median"], metrics["max"]) == (3, labels[2], 1e-300, 1 / 3)


def test_labels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finite label for 2 crystals, such as toy-0, toy-2"):
        write_labels(tmp_path, toy_crystals(3), np.array([np.nan, 1.0, np.inf]))
    assert not list(tmp_path.iterdir())
