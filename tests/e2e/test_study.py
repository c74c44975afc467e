"""Tiny wheels from a study file: failing, killed, and finished by the same command."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.processes import is_alive, wait_until_gone
from tests.test_cli import CONFIGS, SMALL_FILTER

STUDY = {
    "name": "tiny",
    "config": str(CONFIGS / "flywheel" / "jitter.yaml"),
    "options": {
        "data.target": "poly_total",
        "data.split": "RandomSplit",
        "data.cache_dir": "cache",
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.callbacks.baselines": ["dummy"],
        "trainer.callbacks.arms": ["F", "F x k", "F+G_F"],
        **{f"trainer.callbacks.{name}": value for name, value in SMALL_FILTER.items()},
    },
    "grid": {
        "dataset": {name: {"data.dataset": f"{name}.xyz"} for name in ("here", "later")},
        "split": {"data.split.seed": [0, 1]},
    },
}
COMMAND = [sys.executable, "-m", "matwheel.study", "study.yaml", "--jobs", "2", "--threads", "1"]


def _study(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


@pytest.fixture
def folder(table: Path, tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    shutil.copy(table, tmp_path / "here.xyz")
    return tmp_path / "runs" / "tiny"


@pytest.mark.slow
def test_a_study_that_fails_is_killed_and_goes_on(table: Path, folder: Path, tmp_path: Path) -> None:
    study = _study(tmp_path)
    while not list(folder.glob("*/cell.json")):  # at least one is finished
        assert study.poll() is None, study.communicate()[0]
        time.sleep(0.05)
    children = _children(study.pid)
    study.kill()
    study.communicate()
    for child in children:
        wait_until_gone(child, seconds=60)
    first = next(folder.glob("*/cell.json")).parent
    assert first.name.startswith("dataset=here,")
    finished_at = (first / "results.csv").stat().st_mtime_ns

    study = _study(tmp_path)
    output = study.communicate()[0]
    assert study.returncode == 1, output
    assert "2 of 4 cells failed" in output
    assert f"({folder / 'dataset=later,split=1' / 'log.txt'})" in output
    assert "later.xyz" in output
    assert (first / "results.csv").stat().st_mtime_ns == finished_at
    assert set(pd.read_csv(folder / "results.csv")["dataset"]) == {"here"}

    shutil.copy(table, tmp_path / "later.xyz")
    study = _study(tmp_path)
    output = study.communicate()[0]
    assert study.returncode == 0, output
    results = pd.read_csv(folder / "results.csv")
    assert results.groupby(["dataset", "split", "arm"]).size().tolist() == [1] * 16
    here, later = (results[results["dataset"] == name] for name in ("here", "later"))
    same = ["split", "arm", "n_real", "n_synthetic", "test_mae", "val_mae"]
    assert here[same].values.tolist() == later[same].values.tolist()  # one table under two names, interrupted or not
    statistics = pd.read_csv(folder / "statistics.csv")
    assert statistics[["dataset", "arm", "splits"]].values.tolist() == [
        [name, arm, 2] for name in ("here", "later") for arm in ("dummy", "F", "F x k", "F+G_F")
    ]
    assert "less F x k" in output


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_study_ends_what_it_started(folder: Path, tmp_path: Path, signum: signal.Signals) -> None:
    study = _study(tmp_path)
    while len(children := _children(study.pid)) < 2:
        assert study.poll() is None, study.communicate()[0]
        time.sleep(0.05)
    study.send_signal(signum)
    output = study.communicate()[0]
    assert study.returncode == 128 + signum, output
    assert f"received {signum.name}: the study ends here, the same command continues it" in output
    assert "Traceback" not in output
    assert not any(is_alive(child) for child in children)
    assert not list(folder.glob("*/cell.json"))
