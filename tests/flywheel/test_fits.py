import pytest

from matwheel.flywheel.fits import check_predictors
from matwheel.flywheel.names import fitted_stage
from matwheel.predictors.ensemble import Ensemble
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.median import Median
from matwheel.predictors.predictor import Predictor
from matwheel.predictors.regressors import Trees
from matwheel.predictors.stack import Stack


@pytest.mark.parametrize(
    ("predictors", "message"),
    [
        ([FeaturePredictor(name="a/b")], "'a/b' cannot name a predictor"),
        ([FeaturePredictor(name="")], "'' cannot name a predictor"),
        ([Ensemble(name="CGCNN")], "'CGCNN' is the name of other rows"),
        ([FeaturePredictor(), FeaturePredictor(regressor=Trees(3))], "two different predictors have the name 'trees'"),
        ([Ensemble(2), Stack([Ensemble(3), Median()])], "two different predictors have the name 'ensemble'"),
        ([Ensemble(name="a b"), Median(), FeaturePredictor(name="a_b")], "two different predictors have the name"),
    ],
)
def test_names_that_would_be_mixed_up(predictors: list[Predictor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_predictors(predictors, taken=("CGCNN",))


def test_what_is_part_of_several_is_one() -> None:
    check_predictors([Ensemble(2), Stack([Ensemble(2), Median()]), Stack([Ensemble(2), Median()])], taken=())


def test_stages_of_predictors_are_told_apart() -> None:
    assert fitted_stage("F x k", "trees on all", "-round-2") == "predictor-F_x_k-round-2-by-trees_on_all"
