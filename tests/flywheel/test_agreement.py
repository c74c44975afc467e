import numpy as np
import pytest

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.flywheel.agreement import LabelAgreement
from matwheel.flywheel.labels import Teacher
from matwheel.predictors.predictor import Fitted, Predictor
from tests.models.toys import toy_crystals

LABELLED = toy_crystals(50, seed=1).with_properties(dielectric=np.exp(np.linspace(-1, 1, 50)) * 10)
DEVIATION = np.linspace(-1, 1, 50).std()  # of the logarithm


def _teacher(*members: list[float]) -> Teacher:
    def predict(crystals: CrystalTable) -> FloatArray:
        return np.array(members)

    return Teacher("dielectric", LABELLED, predict, _no_model, seed=0)


def _no_model(predictor: Predictor) -> Fitted:
    raise AssertionError("nobody asked for another model")


def _asked(*values: float) -> CrystalTable:
    return toy_crystals(len(values)).with_properties(dielectric=np.array(values))


def test_differences_are_in_standard_deviations_of_the_logarithm() -> None:
    factor = np.exp(0.6 * DEVIATION)
    crystals = _asked(10.0, 10.0, 10.0, 10.0 * factor)
    teacher = _teacher([10.0, 10 * factor, 10.0, 10.0], [10.0, 10 / factor, 10.0 * factor**2, 10.0])
    result = LabelAgreement(max_spread=0.9, max_deviation=0.7).apply(crystals, teacher)
    # Spreads: 0, 0.85, 0.85, 0; deviations: 0, 0, 0.6, 0.6
    assert [(step.name, step.before, step.after) for step in result.steps] == [("spread", 4, 4), ("deviation", 4, 4)]
    result = LabelAgreement(max_spread=0.8, max_deviation=0.5).apply(crystals, teacher)
    assert [(step.name, step.before, step.after) for step in result.steps] == [("spread", 4, 2), ("deviation", 2, 1)]
    assert result.crystals.ids.tolist() == crystals.ids[:1].tolist()
    np.testing.assert_array_equal(result.crystals.properties["dielectric"], [10.0])


def test_steps_are_options() -> None:
    crystals, teacher = _asked(10.0, 100.0), _teacher([10.0, 100.0], [100.0, 100.0])
    assert len(LabelAgreement(max_spread=None).apply(crystals, teacher).crystals) == 1
    by_spread = LabelAgreement(max_deviation=None).apply(crystals, teacher)
    assert by_spread.crystals.ids.tolist() == crystals.ids[1:].tolist()
    with pytest.raises(ValueError, match="leave the agreement out"):
        LabelAgreement(None, None)
    with pytest.raises(ValueError, match="max_spread must be above 0"):
        LabelAgreement(max_spread=0.0)
    with pytest.raises(ValueError, match="transform 'none' has a unit: choose one of standardise, log, log1p"):
        LabelAgreement(transform="none")  # type: ignore[arg-type]


def test_a_prediction_that_is_no_number_does_not_pass() -> None:
    result = LabelAgreement(max_spread=None).apply(_asked(10.0, 10.0), _teacher([np.nan, 10.0]))
    assert len(result.crystals) == 1


def test_a_wheel_must_have_what_it_needs() -> None:
    with pytest.raises(ValueError, match="set num_teachers to 2"):
        LabelAgreement().check(1, "dielectric", ["dielectric"])
    with pytest.raises(ValueError, match="add the target 'dielectric' to the conditions"):
        LabelAgreement().check(2, "dielectric", ["gap"])
    LabelAgreement(max_spread=None).check(1, "dielectric", ["dielectric"])
    LabelAgreement(max_deviation=None).check(2, "dielectric", ["gap"])
