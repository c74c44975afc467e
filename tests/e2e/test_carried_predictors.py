"""Predictors that are no networks leave a flywheel as files: `predict`, `evaluate` and `export` take them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from matwheel import api
from matwheel.evaluate import main as evaluate
from matwheel.export import export as export_model
from matwheel.export import main as export
from matwheel.fit import main as fit
from matwheel.predict import main as predict
from matwheel.sample import main as sample
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, _args

PREDICTORS = """
- &trees
  class_path: FeaturePredictor
  init_args: {name: few trees, regressor: {class_path: Trees, init_args: {num_trees: 20}}}
- class_path: Stack
  init_args:
    members: [*trees, {class_path: Ensemble, init_args: {num_members: 2}}]
"""
SMALL = {"hidden_dim": 8, "num_convs": 1, "head_dim": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_small_table(folder / "small.xyz")
    (folder / "predictors.yaml").write_text(PREDICTORS)
    options = {
        **{f"model.network.{name}": str(size) for name, size in SMALL.items()},
        "trainer.callbacks.arms": '["F"]',
        "trainer.callbacks.predictors": "predictors.yaml",
        "data.dataset": "small.xyz",
        "data.target": "poly_total",
        "data.cache_dir": "cache",
        "name": "wheel",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *SHORT, *given])
    return folder / "runs" / "wheel"


def _predicted(*args: object, out: Path) -> pd.DataFrame:
    predict([*map(str, args), "--out", str(out)])
    return pd.read_csv(out, dtype={"id": str}, index_col="id", float_precision="round_trip")


STAGES = ["baseline-trees", "baseline-dummy", "predictor-F-by-few_trees", "predictor-F-by-stack"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_predicts_what_its_table_says_and_so_does_its_export(run: Path, tmp_path: Path, stage: str) -> None:
    folder, crystals = run / "stages" / stage, run.parents[1] / "small.xyz"
    found = _predicted(folder, crystals, "--interval", "0.5", out=tmp_path / "found.csv")
    assert list(found.columns) == ["prediction", "low", "high", "target"]
    for table in ("predictions.csv", "validation_predictions.csv"):
        known = pd.read_csv(folder / table, dtype={"id": str}, index_col="id")
        np.testing.assert_allclose(found.loc[known.index, "prediction"], known["prediction"], rtol=1e-5)

    export([str(folder), "--out", str(tmp_path / "mine")])
    carried = _predicted(tmp_path / "mine", crystals, "--interval", "0.5", out=tmp_path / "carried.csv")
    pd.testing.assert_frame_equal(found, carried, check_exact=True)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        *("predictor.skops", "validation_predictions.csv", "README.md")
    }
    frame = api.predict(tmp_path / "mine", crystals)
    np.testing.assert_array_equal(frame["prediction"], found["prediction"])


def test_the_card_says_what_it_is(run: Path, tmp_path: Path) -> None:
    export([str(run / "stages" / "predictor-F-by-stack" / "predictor.skops"), "--out", str(tmp_path / "mine")])
    card = (tmp_path / "mine" / "README.md").read_text()
    metrics = json.loads((run / "stages" / "predictor-F-by-stack" / "stage.json").read_text())["record"]["metrics"]
    real = len(json.loads((run / "version_0" / "split.json").read_text())["train"])
    for line in (
        "# poly_total: stack",
        "- kind: stack, a property predictor (Combination)",
        "- target: poly_total (unit of the data set)",
        "- data set: small.xyz",
        "- split: RandomSplit, seed 0",
        f"- trained on: {real} real crystals (repeats counted) and 0 synthetic ones: arm `F`, round 0, seed 0",
        f"- test_mae: {metrics['test_mae']:.4g}",
        "python -m matwheel.predict mine new_crystals.extxyz --out predictions.csv",
    ):
        assert line in card.splitlines()
    assert "scikit-learn " in card
    assert str(run.parent) not in card


def test_trees_judge_conditions(run: Path, tmp_path: Path) -> None:
    crystals = run.parents[1] / "small.xyz"
    judged = ["--predictor", str(run / "stages" / "baseline-trees"), "--condition", "poly_total"]
    evaluate([str(crystals), "--reference", str(crystals), *judged, "--out", str(tmp_path / "judged")])
    figures = json.loads((tmp_path / "judged" / "metrics.json").read_text())["figures"]
    assert [figure["name"] for figure in figures if figure["name"].startswith("condition MAE")] == [
        "condition MAE (baseline-trees)"
    ]


def test_a_folder_of_several_gives_their_spread(run: Path, tmp_path: Path) -> None:
    crystals = run.parents[1] / "small.xyz"
    for stage in STAGES[2:]:
        export([str(run / "stages" / stage), "--out", str(tmp_path / "all" / stage)])
    network = run / "stages" / "predictor-F" / "best.ckpt"
    found = _predicted(tmp_path / "all", crystals, "--model", network, "--interval", "0.5", out=tmp_path / "p.csv")
    assert list(found.columns) == ["prediction", "spread", "low", "high", "target"]


def test_targets_in_single_precision_are_the_same_rows(run: Path, tmp_path: Path) -> None:
    """Networks see them so, and leave them so."""
    crystals, network = run.parents[1] / "small.xyz", tmp_path / "network"
    export([str(run / "stages" / "predictor-F" / "best.ckpt"), "--out", str(network)])
    table = pd.read_csv(network / "validation_predictions.csv")
    table["target"] *= 1 + 1e-8
    table.to_csv(network / "validation_predictions.csv", index=False)
    trees = run / "stages" / "baseline-trees"
    found = _predicted(network, crystals, "--model", trees, "--interval", "0.5", out=tmp_path / "p.csv")
    assert "low" in found.columns
    table["target"] *= 1.01
    table.to_csv(network / "validation_predictions.csv", index=False)
    found = _predicted(network, crystals, "--model", trees, "--interval", "0.5", out=tmp_path / "p.csv")
    assert "low" not in found.columns


def test_an_export_replaces_an_earlier_one_of_another_kind(run: Path, tmp_path: Path) -> None:
    stages = run / "stages"
    both = [stages / "predictor-F" / "best.ckpt", stages / "baseline-trees"]
    for first, second in (both, both[::-1]):
        for model in (first, second):
            export([str(model), "--out", str(tmp_path / "mine")])
        predicted = api.predict(tmp_path / "mine", run.parents[1] / "small.xyz")["prediction"]
        expected = api.predict(second, run.parents[1] / "small.xyz")["prediction"]
        np.testing.assert_allclose(predicted, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="holds the model itself"):
        export_model(tmp_path / "mine", tmp_path / "mine")


def test_stages_of_many_arms_are_no_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crystals = str(run.parents[1] / "small.xyz")
    for command, message in [
        (lambda: predict([str(run / "stages"), crystals]), "whose models are of many arms: name one of baseline-"),
        (
            lambda: sample([str(run / "stages" / "baseline-trees"), "--values", "1"]),
            "is a predictor that is no network",
        ),
    ]:
        with pytest.raises(SystemExit):
            command()
        assert message in capsys.readouterr().err


def test_the_config_of_a_run_may_be_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "predictor.skops").write_bytes((run / "stages" / "baseline-trees" / "predictor.skops").read_bytes())
    with pytest.raises(SystemExit):
        export([str(alone), "--out", str(tmp_path / "mine")])
    assert "copy the one of the run that made this" in capsys.readouterr().err
    config = run / "version_0" / "config.yaml"
    assert yaml.safe_load(config.read_text())["data"]
    export([str(alone), "--out", str(tmp_path / "mine"), "--config", str(config)])
    assert "intervals: none" in (tmp_path / "mine" / "README.md").read_text()
