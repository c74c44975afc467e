"""Predictors beside the trainer's own model: in every arm, as parts of a stack, and as labellers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matwheel.flywheel.turn
from matwheel.flywheel.labels import ModelLabels
from matwheel.flywheel.results import read_results
from matwheel.predictors.ensemble import Ensemble
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.predictor import Fitted, Fitting, Labelled, Predictor
from matwheel.predictors.regressors import SupportVectors, Trees
from matwheel.predictors.stack import Stack
from matwheel.report.comparison import compare
from matwheel.report.folders import read_folders
from tests.e2e.toy_wheel import attempts, changed, ledger, spin

ARMS = ("F", "F x k", "G_F then F", "F+G_F")
FITTED = ("F", "F_x_k", "F+G_F")


def _predictors(num_trees: int = 10) -> list[Predictor]:
    machine = FeaturePredictor(regressor=SupportVectors([3.0]), name="SVR")
    return [machine, Stack([Ensemble(2), FeaturePredictor(regressor=Trees(num_trees)), machine])]


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in a stack, with all parts of it finished, and run again."""
    folder = tmp_path_factory.mktemp("run")
    original: Callable[..., Fitted] = Stack.fit

    def interrupted(self: Stack, training: Labelled, validation: Labelled, context: Fitting) -> Fitted:
        if "F_x_k" in context.folder.name:
            raise RuntimeError("power cut")
        return original(self, training, validation, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "fit", interrupted)
        with pytest.raises(RuntimeError, match="power cut"):
            spin(folder, table, arms=ARMS, baselines=(), predictors=_predictors())
    finished_before = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("stages/*/stage.json")}
    assert "predictor-F_x_k-by-trees" in finished_before
    spin(folder, table, arms=ARMS, baselines=(), predictors=_predictors())
    times = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("stages/*/stage.json")}
    assert finished_before.items() < times.items()
    return folder


def test_every_arm_has_a_row_of_every_predictor(finished: Path) -> None:
    rows = read_results(finished / "results.csv")
    fitted = [arm for arm in ARMS if "then" not in arm]
    assert [(row.predictor, row.arm) for row in rows] == [
        *(("CGCNN", arm) for arm in ARMS),
        *((name, arm) for name in ("SVR", "stack") for arm in fitted),
    ]
    own = {row.arm: row for row in rows[: len(ARMS)]}
    for row in rows:
        sizes = row.n_real, row.n_synthetic, row.round
        assert sizes == (own[row.arm].n_real, own[row.arm].n_synthetic, own[row.arm].round)
    (run,) = read_folders([finished]).runs
    for row in rows:
        table = pd.read_csv(run.predictions(row) / "predictions.csv")
        assert len(table) == 8
        assert (table["prediction"] - table["target"]).abs().mean() == pytest.approx(row.test_mae, rel=1e-5)
    by_predictor = compare(read_folders([finished]).measurements)
    assert [found.setting.predictor for found in by_predictor] == ["CGCNN", "SVR", "stack"]


def test_nothing_is_trained_twice(finished: Path) -> None:
    stages = ledger(finished)
    trained = {name for name in stages if name.startswith("predictor-") and "-by-" not in name}
    own = {f"predictor-{arm.replace(' ', '_')}" for arm in ARMS}
    of_start = {"predictor-G_F"}
    assert trained == {*own, *of_start, *(f"predictor-{arm}-teacher-2" for arm in FITTED)}
    for arm in FITTED:
        names = ("ensemble", "trees", "SVR", "stack")
        ensemble, trees, machine, stack = (stages[f"predictor-{arm}-by-{name}"] for name in names)
        members = (stages[f"predictor-{arm}{end}"]["key"] for end in ("", "-teacher-2"))
        assert [ensemble["inputs"][f"member {number}"] for number in (1, 2)] == list(members)
        parts = {"ensemble": ensemble, "trees": trees, "SVR": machine}
        assert {f"part {name}": part["key"] for name, part in parts.items()}.items() <= stack["inputs"].items()
    assert not list((finished / "stages").glob("*.partial-*"))


def test_a_rerun_skips_everything_and_an_option_redoes_what_depends_on_it(
    finished: Path, table: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before, results = attempts(run), (run / "results.csv").read_text()
    spin(run, table, arms=ARMS, baselines=(), predictors=_predictors())
    assert attempts(run) == before
    assert (run / "results.csv").read_text() == results
    spin(run, table, arms=ARMS, baselines=(), predictors=_predictors(num_trees=11))
    redone = {f"predictor-{arm}-by-{name}" for arm in FITTED for name in ("trees", "stack")}
    assert changed(before, attempts(run)) == redone


def test_any_predictor_labels(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FeaturePredictor(regressor=SupportVectors([3.0]), name="SVR")
    stack = Stack([Ensemble(2), machine])
    trained: list[str] = []
    original = matwheel.flywheel.turn.train_predictor

    def spy(*args: object) -> dict[str, float]:
        trained.extend(arg.name.partition(".")[0] for arg in args if isinstance(arg, Path))
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(matwheel.flywheel.turn, "train_predictor", spy)
    options = {"labelled_fraction": 0.5, "rounds": 2, "arms": ("S", "S+G_S"), "baselines": (), "num_teachers": 2}
    labellers = {"labeller": ModelLabels(stack), "pseudo_labeller": ModelLabels(machine)}
    spin(tmp_path, table, predictors=[machine], **options, **labellers)  # type: ignore[arg-type]
    assert len(trained) == len(set(trained))
    assert {"predictor-S", "predictor-S-teacher-2"} <= set(trained)
    rows = read_results(tmp_path / "results.csv")
    assert [(row.predictor, row.arm, row.round) for row in rows] == [
        *(("CGCNN", "S", 0), ("CGCNN", "S+G_S", 1), ("SVR", "S", 0), ("SVR", "S+G_S", 1)),
        *(("CGCNN", "S+G_S", 2), ("SVR", "S+G_S", 2)),
    ]
    stages = ledger(tmp_path)
    for end in ("", "-round-2"):
        assert stages[f"labels{end}"]["inputs"]["predictor stack"] == stages["predictor-S-by-stack"]["key"]
        assert stages[f"pseudo-labels{end}"]["inputs"]["predictor SVR"] == stages["predictor-S-by-SVR"]["key"]
        labels = pd.read_parquet(tmp_path / "stages" / f"labels{end}" / "labels.parquet")["label"]
        assert np.isfinite(labels).all()
        assert labels.nunique() > 1
    (tmp_path / "stages" / "labels" / "stage.json").unlink()
    before = pd.read_parquet(tmp_path / "stages" / "labels" / "labels.parquet")
    trained.clear()
    spin(tmp_path, table, predictors=[machine], **options, **labellers)  # type: ignore[arg-type]
    assert not trained  # the predictors are fitted again from what their stages left
    pd.testing.assert_frame_equal(before, pd.read_parquet(tmp_path / "stages" / "labels" / "labels.parquet"))


def test_names_are_told_apart(table: Path, tmp_path: Path) -> None:
    machine = FeaturePredictor(name="CGCNN")
    with pytest.raises(ValueError, match="'CGCNN' is the name of other rows of results"):
        spin(tmp_path, table, predictors=[machine])
    with pytest.raises(ValueError, match="each predictor needs a name of its own, unlike trees, trees"):
        spin(tmp_path, table, predictors=[FeaturePredictor(), FeaturePredictor()])
