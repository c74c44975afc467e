"""A wheel in Weights & Biases without an account: what it left on disk is read back, and its predictors are used."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import wandb

from matwheel import api
from matwheel.fit import main
from matwheel.flywheel.results import read_results
from matwheel.models.predictor import PropertyPredictor
from tests.e2e.toy_wheel import ledger
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, SMALL_WHEEL, _args
from tests.wandb_files import WandbRun, read_runs

pytestmark = pytest.mark.slow
NAME = "tracked"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture(scope="module", autouse=True)
def _without_an_account(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            patch.delenv(name)
        patch.setenv("NETRC", str(folder / "no-netrc"))
        for place in ("CONFIG", "DATA", "CACHE"):
            patch.setenv(f"WANDB_{place}_DIR", str(folder / "wandb-files"))
        wandb.teardown()  # it reads the environment once per process: tests before these may have set it
        yield


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, WandbRun]:
    """Runs of a wheel, by name; the outer one has the name of the run."""
    return {run.name: run for run in _spin(folder)}


def _spin(folder: Path, name: str = NAME) -> list[WandbRun]:
    """The runs that a turn of the wheel adds."""
    runs = folder / "runs" / name / "wandb"
    before = {run.id for run in read_runs(runs)}
    table = folder / "small.xyz"
    if not table.is_file():
        write_small_table(table)
    options = {"data.dataset": table, "data.target": "poly_total", "data.cache_dir": folder / "cache"}
    wheel = {f"trainer.callbacks.{name}": value for name, value in SMALL_WHEEL.items()}
    given = [part for name, value in (options | wheel).items() for part in (f"--{name}", str(value))]
    tracked = ["--trainer.logger", "WandbLogger", "--trainer.logger.project", "toys", "--name", name, "--quiet"]
    with contextlib.chdir(folder):
        try:
            main([*_args("fit", CONFIGS / "flywheel" / "full.yaml"), *given, *SHORT, *tracked])
        finally:
            wandb.finish()
    return [run for run in read_runs(runs) if run.id not in before]


def test_every_stage_is_a_run_of_one_group(folder: Path, runs: dict[str, WandbRun]) -> None:
    stages = ledger(folder / "runs" / NAME)
    assert set(runs) == {NAME, *stages}
    assert {run.group for run in runs.values()} == {NAME}
    jobs = {name: run.job_type for name, run in runs.items()}
    assert jobs[NAME] == "flywheel"
    assert jobs["predictor-F+G_F"] == jobs["predictor-F"] == "predictor"
    assert jobs["statistics-real"] == "statistics"
    for name, record in stages.items():
        assert runs[name].config["key"] == record["key"]
        assert runs[name].config["inputs"] == record["inputs"]
        assert runs[name].config["seed"] == record["seed"]
        assert runs[name].summary.items() >= record["metrics"].items()
    assert {"train/loss", "val/mae", "test/mae", "trainer/global_step"} <= runs["predictor-F"].keys


def _diverges(*_: object) -> None:
    raise FloatingPointError("diverged")


def _is_interrupted(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("end", [_diverges, _is_interrupted])
def test_a_run_that_ends_before_its_time_is_marked(
    folder: Path, end: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PropertyPredictor, "training_step", end)
    with pytest.raises((SystemExit, FloatingPointError)):
        _spin(folder, end.__name__)
    exits = {run.name: run.exit_code for run in read_runs(folder / "runs" / end.__name__ / "wandb")}
    failed = {name for name, code in exits.items() if code == 1}
    assert failed == {end.__name__, "predictor-F"}, exits
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "wandb:" not in said  # with --quiet


def test_artifacts_have_a_lineage_from_real_crystals_to_predictors(runs: dict[str, WandbRun]) -> None:
    maker = {artifact["digest"]: name for name, run in runs.items() for artifact in run.made.values()}

    def parents(stage: str) -> set[str]:
        used = runs[stage].used.values()
        assert all(a["type"] == "dataset" for a in used if a["digest"] not in maker)
        return {maker.get(artifact["digest"], artifact["type"]) for artifact in used}

    assert parents("generator") == {"dataset"}
    assert parents("prior") == {"dataset", "generator"}
    assert parents("samples") == {"prior", "conditions"}
    assert parents("crystals") == {"dataset", "samples"}
    assert parents("labels") == {"dataset", "crystals"}
    assert parents("predictor-F+G_F") == {"dataset", "labels"}
    assert parents("predictor-F") == {"dataset"}
    made = runs["predictor-F+G_F"].made["predictor-F_G_F"]
    assert {"best.ckpt", "predictions.csv", "validation_predictions.csv", "stage.json"} == set(made["files"])
    real = next(iter(runs["predictor-F"].used.values()))
    assert real["metadata"]["target"] == "poly_total"
    assert real["metadata"]["dataset"].endswith("small.xyz")


def test_the_outer_run_has_options_results_and_crystals(folder: Path, runs: dict[str, WandbRun]) -> None:
    outer = runs[NAME]
    assert outer.config["options"]["model"]["class_path"].endswith("PropertyPredictor")
    assert outer.config["options"]["trainer"]["callbacks"]
    errors = {row.arm: row.test_mae for row in read_results(folder / "runs" / NAME / "results.csv")}
    for arm, error in errors.items():
        assert outer.summary[f"test_mae/{arm}"] == pytest.approx(error)
    differences = {name: value for name, value in outer.summary.items() if "difference" in name}
    assert len(differences) == 4
    expected = errors["F+G_F"] - errors["F x k"]
    assert differences["test_mae_difference/CGCNN F+G_F - F x k"] == pytest.approx(expected)
    table = outer.tables["synthetic_crystals"]
    assert {"id", "formula", "condition_poly_total", "poly_total", "valid"} <= set(table["columns"])
    assert len(table["data"]) == runs["crystals"].summary["count"]
    assert len(runs["samples"].tables["crystals"]["data"]) == runs["samples"].summary["count"]


def test_a_rerun_has_the_same_lineage_though_it_skips_all(folder: Path, runs: dict[str, WandbRun]) -> None:
    again = {run.name: run for run in _spin(folder)}
    assert set(again) == set(runs)
    for name in set(runs) - {NAME}:
        assert again[name].config["skipped"] is True
        assert runs[name].config["skipped"] is False
        for one, other in ((again[name].made, runs[name].made), (again[name].used, runs[name].used)):
            assert {artifact["digest"] for artifact in one.values()} == {a["digest"] for a in other.values()}


@pytest.mark.usefixtures("runs")
def test_intervals_of_the_predictors_of_a_wheel(folder: Path) -> None:
    stages = folder / "runs" / NAME / "stages"
    validation = pd.read_csv(stages / "predictor-F" / "validation_predictions.csv", dtype={"id": str})
    assert validation["id"].is_unique
    models = [stages / f"predictor-{arm}" / "best.ckpt" for arm in ("F", "F_x_k", "F+G_F")]
    for given, spread in ((models, ["spread"]), (models[:1], [])):
        table = api.predict(given, folder / "small.xyz", interval=0.5).set_index("id")
        assert list(table.columns) == ["prediction", *spread, "low", "high", "target"]
        assert (table["low"] < table["prediction"]).all()
        assert (table["prediction"] < table["high"]).all()
        rows = table.loc[validation["id"]]
        assert rows.eval("low <= target <= high").mean() >= 0.5
