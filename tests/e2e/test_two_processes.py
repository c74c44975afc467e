"""The wheel on two processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from matwheel.fit import main
from matwheel.flywheel.arms import DEFAULT_ARMS, ScenarioName
from matwheel.flywheel.results import read_results
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, SMALL_WHEEL


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["full", "semi"])
def test_two_processes_equal_one(scenario: ScenarioName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(sys, "argv", ["fit"])
    write_small_table(Path("small.xyz"))
    small = [part for name, value in SMALL_WHEEL.items() for part in (f"--trainer.callbacks.{name}", str(value))]
    data = ["--data.dataset", "small.xyz", "--data.target", "poly_total", "--trainer.callbacks.chunk_size", "4"]
    if scenario == "semi":
        data += ["--data.labelled_fraction", "0.5", "--trainer.callbacks.labeller", "MeanLabels"]
    command = ["fit", "-c", str(CONFIGS / "flywheel" / f"{scenario}.yaml"), *data, *SHORT, *small]
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    subprocess.run([sys.executable, "-m", "matwheel.fit", *command, *two], check=True, timeout=600)
    run = Path("runs/small-flywheel")
    results = read_results(run / "results.csv")
    assert [row.arm for row in results] == ["dummy", "trees", *DEFAULT_ARMS[scenario]]
    for row in results[2:]:
        stage = f"predictor-{row.arm.replace(' ', '_')}"
        predictions = pd.read_csv(run / "stages" / stage / "predictions.csv")
        assert predictions["id"].is_unique
        errors = (predictions["prediction"] - predictions["target"]).abs()
        assert errors.mean() == pytest.approx(row.test_mae, rel=1e-4)  # every row counted once

    samples = run / "stages" / "samples"
    made_by_two = pd.read_parquet(samples / "samples.parquet")
    shutil.rmtree(samples)
    main([*command, "--trainer.devices", "1"])
    made_by_one = pd.read_parquet(samples / "samples.parquet")
    pd.testing.assert_frame_equal(made_by_two, made_by_one, rtol=1e-4)
