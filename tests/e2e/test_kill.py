"""Wheels that are killed or told to end at any moment end, started again, with the results of one left alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
from lightning.pytorch.callbacks import Callback

from matwheel.fit import main
from matwheel.flywheel.interruption import Terminated
from tests.e2e.kill import kill
from tests.e2e.toy_wheel import spin
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, SMALL_WHEEL

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """A few kills; `python -m tests.e2e.kill --kills 20` is the long version."""
    report = kill(int(os.environ.get("MATWHEEL_KILLS", "3")), seed=0, folder=tmp_path)
    assert report["kills"] >= 3
    assert report["compared"] > 100
    assert report["repeated"] == {}
    assert report["different"] == {}


class SignalOnce(Callback):
    """Sends this process a signal in the middle of a training."""

    signum: signal.Signals | None = None

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self.signum is not None and trainer.current_epoch == 1:
            signum, type(self).signum = self.signum, None
            os.kill(os.getpid(), signum)


OPTIONS: dict[str, Any] = {"arms": ("F",), "baselines": (), "callbacks": [SignalOnce()]}


@pytest.fixture(scope="module")
def unbroken(table: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("unbroken")
    spin(folder, table, **OPTIONS)
    return pd.read_csv(folder / "results.csv").drop(columns="seconds")


def _interrupted(signum: signal.Signals, folder: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    monkeypatch.setattr(SignalOnce, "signum", signum)
    with pytest.raises(Terminated) as stop:
        spin(folder, table, **OPTIONS)
    assert stop.value.code == (130 if signum == signal.SIGINT else 143)
    assert {number: signal.getsignal(number) for number in before} == before
    assert list(folder.glob("stages/predictor-F.partial-*/last.ckpt"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_continues(
    signum: signal.Signals,
    table: Path,
    unbroken: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _interrupted(signum, tmp_path, table, monkeypatch)
    assert f"received {signum.name}: the run ends here, the same command continues it" in caplog.text
    spin(tmp_path, table, **OPTIONS)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "results.csv").drop(columns="seconds"), unbroken)


@pytest.mark.parametrize("array", [False, True])
def test_slurm_puts_the_job_back_into_the_queue(
    array: bool, table: Path, unbroken: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    job = {"JOB_ID": "41", "JOB_NAME": "wheel", "NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0"}
    if array:
        job |= {"ARRAY_JOB_ID": "40", "ARRAY_TASK_ID": "7"}
    with monkeypatch.context() as slurm:
        slurm.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
        for name, value in {**job, "NODEID": "0", "NNODES": "1"}.items():
            slurm.setenv(f"SLURM_{name}", value)
        _interrupted(signal.SIGUSR1, tmp_path / "run", table, monkeypatch)
        assert (tmp_path / "requeued").read_text() == ("requeue 40_7\n" if array else "requeue 41\n")
        assert not list((tmp_path / "run").rglob("hpc_ckpt*"))
        spin(tmp_path / "run", table, **OPTIONS)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / "results.csv").drop(columns="seconds"), unbroken)


@pytest.mark.slow
def test_the_command_line_when_a_run_is_in_use_and_when_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "argv", ["fit"])
    write_small_table(Path("small.xyz"), count=24)
    options = {**SMALL_WHEEL, "generator_fit.max_epochs": 3000, "generator_fit.check_val_every_n_epoch": 3000}
    small = [part for name, value in options.items() for part in (f"--trainer.callbacks.{name}", str(value))]
    data = ["--data.dataset", "small.xyz", "--data.target", "poly_total"]
    command = ["fit", "-c", str(CONFIGS / "flywheel" / "full.yaml"), *data, *SHORT, *small]
    with Path("out").open("w") as out:
        run = subprocess.Popen([sys.executable, "-m", "matwheel.fit", *command], stdout=out, stderr=out)
    folder = Path("runs/small-flywheel")
    deadline = time.monotonic() + 900
    while not list(folder.glob("stages/generator.partial-*/last.ckpt")):
        assert run.poll() is None, Path("out").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(SystemExit, match="1"):
        main(command)
    assert re.search(
        f"error: runs/small-flywheel is in use by process {run.pid} on .*: wait until it", capsys.readouterr().err
    )
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143
    printed = Path("out").read_text()
    assert "received SIGTERM: the run ends here, the same command continues it" in printed
    assert "Traceback" not in printed
    stages = json.loads((folder / "ledger.json").read_text())["stages"]
    assert (stages["generator"]["status"], stages["baseline-trees"]["status"]) == ("failed", "finished")
    assert "the same command continues" in stages["generator"]["error"]
