"""Fitted predictors as files: the same predictions, and nothing else in them."""

import importlib
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from inspect import isabstract
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import skops.io
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from matwheel.data.targets import TargetTransform
from matwheel.files import WriteError
from matwheel.models.trained import FITTED
from matwheel.predictors.bonds import Bonds
from matwheel.predictors.feature_predictor import FeaturePredictor, FeatureRegression
from matwheel.predictors.features import Cell, Composition, Features
from matwheel.predictors.graph_network import GraphNetwork
from matwheel.predictors.layer_binding import LayerBinding
from matwheel.predictors.layers import Layer
from matwheel.predictors.median import Constant, Median
from matwheel.predictors.predictor import Fitted, NotPortableError, Predictor
from matwheel.predictors.predictor_file import About, read_predictor, write_predictor
from matwheel.predictors.regressors import GaussianProcess, Regression, SupportVectors, Trees
from matwheel.predictors.saved import SavedPredictor
from matwheel.predictors.stack import Stack
from matwheel.predictors.structure_features import Environments, PotentialFeatures, Symmetry, Voronoi
from tests.models.toys import toy_crystals
from tests.predictors.fitting import Given, context, labelled

COLUMNS = [Given(["f0", "f1", "f2"])]
TREES, PROCESS, MACHINE = (
    FeaturePredictor(COLUMNS, regressor, name=type(regressor).__name__)
    for regressor in (Trees(20), GaussianProcess(), SupportVectors())
)


def _about(target: str = "gap") -> About:
    transform = TargetTransform()
    transform.fit(torch.tensor([1.0, 2.0, 50.0]))
    return About.here("mine", target, True, transform)


def _fit(predictor: Predictor, folder: Path, n: int = 60) -> tuple[Fitted, np.ndarray]:
    features = np.random.default_rng(0).random((n, 3))
    features[::7, 1] = np.nan
    training = labelled(features, np.exp(3 * features[:, 0]))
    parts = [_fit(part, folder)[0] for part in predictor.parts]
    fitted = predictor.fit(training, training, context(folder, parts=parts))
    return fitted, fitted(training.table)


@pytest.mark.parametrize(
    "predictor", [Median(), TREES, PROCESS, MACHINE, Stack([TREES, PROCESS])], ids=lambda predictor: predictor.name
)
def test_a_file_predicts_bit_for_bit_the_same(predictor: Predictor, tmp_path: Path) -> None:
    fitted, expected = _fit(predictor, tmp_path)
    features = np.random.default_rng(0).random((60, 3))
    features[::7, 1] = np.nan
    crystals = labelled(features, features[:, 0]).table
    write_predictor(tmp_path / FITTED, fitted, _about())
    read, about = read_predictor(tmp_path / FITTED)
    np.testing.assert_array_equal(read(crystals), expected)
    assert about == _about()
    saved = SavedPredictor.load(tmp_path / FITTED)
    assert (saved.target, saved.reduce_cells, saved.validation) == ("gap", True, None)
    assert saved.transform.numbers() == dict(_about().numbers)


def test_cells_are_reduced_as_in_training(tmp_path: Path) -> None:
    table = toy_crystals(6)
    skewed = toy_crystals(6)
    skewed.lattices[:, 0] += 3 * skewed.lattices[:, 1]
    predictor = FeaturePredictor([Composition(), Cell()], Trees(5))
    known = labelled(np.zeros((6, 1)), np.arange(1.0, 7.0))._replace(table=table)
    write_predictor(tmp_path / FITTED, predictor.fit(known, known, context(tmp_path)), _about())
    one, other = (SavedPredictor.load(tmp_path / FITTED).predict(cells) for cells in (table, skewed))
    assert len(set(one)) > 1
    np.testing.assert_allclose(one, other)


@dataclass(frozen=True)
class _Mine(Fitted):
    """A predictor of a user's own."""

    scale: float

    def __call__(self, table):
        return self.scale * table.num_atoms


def test_a_class_of_ones_own_needs_nothing_else(tmp_path: Path) -> None:
    write_predictor(tmp_path / FITTED, _Mine(2.0), _about())
    table = toy_crystals(3)
    assert read_predictor(tmp_path / FITTED)[0](table).tolist() == (2.0 * table.num_atoms).tolist()


class _Unchecked:
    """Would be written as what it is not."""

    def __init__(self, content: object) -> None:
        self.content = content

    def portable(self) -> object:
        return self.content


def _write_unchecked(path: Path, content: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody would who means harm."""
    with monkeypatch.context() as patch:
        patch.setattr("matwheel.predictors.predictor_file._foreign", lambda named: [])
        write_predictor(path, _Unchecked(content), _about())  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [Fraction(1, 2), PurePosixPath("x"), np.load], ids=["number", "path", "function"])
def test_what_is_no_part_of_a_predictor_is_neither_written_nor_made(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FITTED
    with pytest.raises(NotPortableError, match=r"Constant holds .*, which is not written"):
        write_predictor(path, Constant(content), _about())  # type: ignore[arg-type]
    assert not path.exists()
    _write_unchecked(path, Constant(content), monkeypatch)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"asks for .*, which is no part of a predictor that is known here"):
        read_predictor(path)


def test_what_cannot_be_written_is_told_apart_from_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(NotPortableError, match="Constant cannot be written"):
        write_predictor(tmp_path / FITTED, Constant(torch.zeros(1)), _about())  # type: ignore[arg-type]
    with pytest.raises(WriteError):
        write_predictor(Path("/dev/null") / FITTED, Constant(1.0), _about())


def test_reading_imports_no_module_that_a_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "from matwheel.predictors.predictor import Fitted\nclass Mine(Fitted):\n    __call__ = len\n"
    (tmp_path / "of_ones_own.py").write_text(code)
    own = importlib.import_module("of_ones_own")
    write_predictor(tmp_path / FITTED, own.Mine(), _about())
    monkeypatch.delitem(sys.modules, "of_ones_own")
    with pytest.raises(ValueError, match=r"asks for of_ones_own.Mine.* must be imported before"):
        read_predictor(tmp_path / FITTED)
    assert "of_ones_own" not in sys.modules
    importlib.import_module("of_ones_own")
    assert read_predictor(tmp_path / FITTED)[0](toy_crystals(3)) == 3


FEATURES = [Composition, Cell, Bonds, Layer, LayerBinding, Symmetry, Voronoi, Environments, PotentialFeatures]


def test_these_are_all_features_of_the_package() -> None:
    """But for those that exist only inside a run."""

    def kinds(base: type) -> set[type]:
        return {kind for one in base.__subclasses__() for kind in (one, *kinds(one))}

    found = {kind for kind in kinds(Features) if kind.__module__.startswith("matwheel.predictors")}
    assert {kind for kind in found if not isabstract(kind)} == set(FEATURES)


@pytest.mark.parametrize("features", FEATURES, ids=lambda kind: kind.__name__)
def test_features_of_the_package_can_be_written(features: type[Features], tmp_path: Path) -> None:
    if features in (LayerBinding, PotentialFeatures):
        pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')
    transform = _about()
    regression = Regression(make_pipeline(StandardScaler()))
    fitted = FeatureRegression((features(),), regression, "log", dict(transform.numbers))
    write_predictor(tmp_path / FITTED, fitted, _about())
    read, _ = read_predictor(tmp_path / FITTED)
    assert isinstance(read, FeatureRegression)
    assert vars(read.features[0]) == vars(features())


def test_other_versions_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    about = replace(_about(), versions={"scikit-learn": "0.1"})
    write_predictor(tmp_path / FITTED, Constant(1.0), about)
    read_predictor(tmp_path / FITTED)
    assert "may predict other last digits, or worse. It was written by scikit-learn 0.1; here are" in caplog.text


def test_of_no_crystals_nothing_is_predicted(tmp_path: Path) -> None:
    fitted, _ = _fit(TREES, tmp_path)
    write_predictor(tmp_path / FITTED, fitted, _about())
    assert SavedPredictor.load(tmp_path / FITTED).predict(toy_crystals(3).take([])).shape == (0,)


def test_predictions_beside_several_files_belong_to_none(tmp_path: Path) -> None:
    write_predictor(tmp_path / FITTED, Constant(1.0), _about())
    (tmp_path / "validation_predictions.csv").write_text("id,prediction,target\na,1.0,2.0\n")
    assert SavedPredictor.load(tmp_path / FITTED).validation is not None
    write_predictor(tmp_path / "other.skops", Constant(2.0), _about())
    assert SavedPredictor.load(tmp_path / FITTED).validation is None


def test_what_cannot_be_read_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / FITTED
    with pytest.raises(ValueError, match="no such predictor"):
        read_predictor(path)
    for content in (b"", b"PK\x03\x04 no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="does not hold a predictor of this program, or is damaged"):
            read_predictor(path)
    skops.io.dump(Constant(1.0), path)  # by skops, but not by us
    with pytest.raises(ValueError, match="does not hold a predictor of this program"):
        read_predictor(path)
    _write_unchecked(path, Cell(), monkeypatch)
    with pytest.raises(ValueError, match="holds Cell, which is no predictor"):
        read_predictor(path)
    write_predictor(path, Constant(1.0), _about())

    def changed(*_: object, **__: object) -> None:
        raise ValueError("node array has an incompatible dtype")

    monkeypatch.setattr(skops.io, "load", changed)
    with pytest.raises(ValueError, match=r"incompatible dtype\). It was written by matwheel .*: install the versions"):
        read_predictor(path)


def test_what_exists_only_inside_a_run_is_not_written(tmp_path: Path) -> None:
    class Bound(Given):
        portable = False

    fitted, _ = _fit(FeaturePredictor([Bound(["f0"])], Trees(2)), tmp_path)
    with pytest.raises(NotPortableError, match="the features Bound exist only inside a run"):
        write_predictor(tmp_path / FITTED, fitted, _about())
    with pytest.raises(NotPortableError, match="only the checkpoint is kept"):
        GraphNetwork(None, 8.0, 12).portable()  # type: ignore[arg-type]
    assert not (tmp_path / FITTED).exists()
