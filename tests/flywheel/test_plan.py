"""The plan of a wheel names the stages that it then runs."""

from pathlib import Path
from typing import Any

import pytest

from matwheel.flywheel.agreement import LabelAgreement
from matwheel.flywheel.conditions import WhereTeachersDisagree
from matwheel.flywheel.labels import ModelLabels, PredictorLabels
from matwheel.flywheel.plan import planned_stages
from matwheel.flywheel.sources import StrainJitter
from matwheel.predictors.ensemble import Ensemble
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.stack import Stack
from tests.e2e.toy_wheel import ledger, spin
from tests.small_data import write_small_table

WHEELS: dict[str, dict[str, Any]] = {
    "teachers": {"num_teachers": 2, "labeller": PredictorLabels(), "arms": ("F x k", "G_F then F"), "rounds": 2},
    "disagreement": {"num_teachers": 2, "conditions": WhereTeachersDisagree(), "labelled_fraction": 0.5, "rounds": 2},
    "only_reuse": {"arms": ("F",), "reuse": ("encoder",)},
    "semi": {"labelled_fraction": 0.5, "arms": ("S", "S+P", "S x k", "S+G_true", "S+G_S"), "rounds": 2},
    "predictors": {
        "predictors": (FeaturePredictor(), Stack([FeaturePredictor(), Ensemble(2)])),
        "labeller": ModelLabels(FeaturePredictor(name="teacher")),
        "arms": ("F x k", "G_F then F", "F+G_F"),
        "rounds": 2,
    },
    "source": {
        "source": StrainJitter(),
        "generator": None,
        "reuse": (),
        "agreement": LabelAgreement(None, max_deviation=1e6),
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("data") / "small.xyz")


@pytest.mark.slow
@pytest.mark.parametrize("name", WHEELS)
def test_the_plan_is_what_is_run(name: str, table: Path, tmp_path: Path) -> None:
    _, flywheel = spin(tmp_path, table, epochs=1, sampler_steps=2, baselines=("dummy",), **WHEELS[name])
    assert flywheel._wheel is not None
    assert planned_stages(flywheel._wheel) == set(ledger(tmp_path))
