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

from tests.processes import children, wait_until_gone
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
        "split": {"data.split.seed": [0, 1]},
        "dataset": {name: {"data.dataset": f"{name}.xyz"} for name in ("here", "later")},
    },
}
COMMAND = [sys.executable, "-m", "matwheel.study", "study.yaml", "--jobs", "2", "--threads", "1"]


def _study(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def folder(table: Path, tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    shutil.copy(table, tmp_path / "here.xyz")
    return tmp_path / "runs" / "tiny"


@pytest.mark.slow
def test_a_study_that_fails_is_killed_and_goes_on(table: Path, folder: Path, tmp_path: Path) -> None:
    study = _study(tmp_path)
    first, failed = folder / "split=0,dataset=here", folder / "split=0,dataset=later"
    while not ((first / "cell.json").exists() and "error:" in (failed / "log.txt").read_text()):
        assert study.poll() is None, study.communicate()[0]
        time.sleep(0.05)
    time.sleep(2)  # the others have begun
    started = children(study.pid)
    study.kill()
    output = study.communicate()[0]
    for child in started:
        wait_until_gone(child, seconds=60)
    assert "failed: split=0,dataset=later: exit status 1" in output
    assert "no file or folder 'later.xyz'" in (failed / "log.txt").read_text()
    finished_at = (first / "results.csv").stat().st_mtime_ns

    shutil.copy(table, tmp_path / "later.xyz")
    study = _study(tmp_path)
    output = study.communicate()[0]
    assert study.returncode == 0, output
    assert (first / "results.csv").stat().st_mtime_ns == finished_at
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
def test_a_study_ends_what_it_started(folder: Path, tmp_path: Path) -> None:
    study = _study(tmp_path)
    while len(started := children(study.pid)) < 2:
        assert study.poll() is None, study.communicate()[0]
        time.sleep(0.05)
    study.send_signal(signal.SIGINT)
    output = study.communicate()[0]
    assert study.returncode == 128 + signal.SIGINT, output
    assert "received SIGINT: the study ends here, the same command continues it" in output
    assert "Traceback" not in output
    for child in started:  # one that the signal met while it was being started sees by itself that the study is gone
        wait_until_gone(child)
    assert not list(folder.glob("*/cell.json"))
