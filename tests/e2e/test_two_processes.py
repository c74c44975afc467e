"""The wheel on two processes, under Lightning's own launcher and under torchrun."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from matwheel.data.crystal import CrystalTable
from matwheel.fit import main
from matwheel.flywheel.arms import DEFAULT_ARMS, ScenarioName
from matwheel.flywheel.results import read_results
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, SHORT, SMALL_WHEEL

Launcher = Literal["lightning", "torchrun"]
RUN = Path("runs/small-flywheel")
MODULE = ["-m", "matwheel.fit"]
REAL_TOLERANCE, SYNTHETIC_TOLERANCE = 1e-3, 0.02
"""Relative difference of test errors between one process and two, of predictors of real and of synthetic crystals.

Sums are rounded in another order; an atom of a synthetic crystal may become another element by it."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are told apart by their environment"),
]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # torchrun's choice, for Lightning's launcher as well
    monkeypatch.setenv("MATWHEEL_TEST", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["fit"])
    write_small_table(Path("small.xyz"))


def _command(scenario: ScenarioName, **options: object) -> list[str]:
    small = {**SMALL_WHEEL, "chunk_size": 4, **{name.replace("__", "."): value for name, value in options.items()}}
    data = ["--data.dataset", "small.xyz", "--data.target", "poly_total", "--data.batch_size", "8"]
    if scenario == "semi":
        data += ["--data.labelled_fraction", "0.5"]
        small["labeller"] = "MeanLabels"
    wheel = [part for name, value in small.items() for part in (f"--trainer.callbacks.{name}", str(value))]
    config = str(CONFIGS / "flywheel" / f"{scenario}.yaml")
    return ["fit", "-c", config, "--name", RUN.name, *data, *SHORT, *wheel]


def _on_two(launcher: Launcher, command: list[str]) -> list[str]:
    if launcher == "torchrun":
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        return [*torchrun, *MODULE, *command, "--trainer.strategy", "ddp"]
    return [sys.executable, *MODULE, *command, "--trainer.devices", "2", "--trainer.strategy", "ddp"]


@pytest.mark.parametrize(
    ("launcher", "scenario", "chunk_size", "chunks"),
    [
        ("lightning", "semi", 4, ["0000000-0000003", "0000004-0000007"]),
        ("torchrun", "full", 64, ["0000000-0000027"]),  # the second process has none
    ],
)
def test_two_processes_agree_with_one(
    launcher: Launcher, scenario: ScenarioName, chunk_size: int, chunks: list[str]
) -> None:
    command = [*_command(scenario, chunk_size=chunk_size), "--trainer.max_epochs", "8"]
    subprocess.run(_on_two(launcher, command), check=True, timeout=900)
    results = read_results(RUN / "results.csv")
    assert [row.arm for row in results] == ["dummy", "trees", *DEFAULT_ARMS[scenario]]
    for row in results[2:]:
        stage = f"predictor-{row.arm.replace(' ', '_')}"
        predictions = pd.read_csv(RUN / "stages" / stage / "predictions.csv")
        assert predictions["id"].is_unique
        errors = (predictions["prediction"] - predictions["target"]).abs()
        assert errors.mean() == pytest.approx(row.test_mae, rel=1e-4)  # every row counted once

    samples, made_by_two = RUN / "stages" / "samples", RUN / "made-by-two"
    parts = sorted(path.stem for path in (samples / "parts").iterdir())
    assert parts[:2] == chunks  # as one process would make them
    shutil.move(samples, made_by_two)
    main([*command, "--trainer.devices", "1"])
    one, two = (CrystalTable.load(folder / "samples.npz") for folder in (samples, made_by_two))
    assert one.fingerprint() == two.fingerprint()  # the same generator makes the same bits
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(folder / "samples.parquet") for folder in (samples, made_by_two)), check_exact=True
    )

    shutil.move(RUN, "two")
    main([*command, "--trainer.devices", "1"])
    one, two = (pd.read_parquet(folder / "stages/conditions/conditions.parquet") for folder in (RUN, Path("two")))
    if scenario == "full":  # the others follow the teacher's labels
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    seeds = [pd.read_parquet(folder / "stages/samples/samples.parquet")["seed"] for folder in (RUN, Path("two"))]
    assert seeds[0].tolist() == seeds[1].tolist()
    maes = [{row.arm: row.test_mae for row in read_results(f / "results.csv")} for f in (RUN, Path("two"))]
    print(maes)
    for arm in ("dummy", "trees"):
        assert maes[0][arm] == maes[1][arm]
    real = {"F", "F x k", "S", "S x k", "S+P"}
    for arm, mae in maes[0].items():
        assert maes[1][arm] == pytest.approx(mae, rel=REAL_TOLERANCE if arm in real else SYNTHETIC_TOLERANCE), arm


def test_predictors_agree_with_one_process() -> None:
    trees = {"class_path": "FeaturePredictor", "init_args": {"regressor": {"class_path": "Trees"}}}
    stack = {"class_path": "Stack", "init_args": {"members": [{"class_path": "Ensemble"}, trees]}}
    stack["init_args"]["members"][0]["init_args"] = {"num_members": 2}
    labeller = {"class_path": "ModelLabels", "init_args": {"predictor": stack}}
    options = {"predictors": json.dumps([trees, stack]), "labeller": json.dumps(labeller)}
    command = _command("full", arms='["F", "F+G_F"]', baselines="[]", **options)
    found = []
    for run in (_on_two("lightning", command), [sys.executable, *MODULE, *command, "--trainer.devices", "1"]):
        subprocess.run(run, check=True, timeout=900)
        found.append({(row.predictor, row.arm): row.test_mae for row in read_results(RUN / "results.csv")})
        assert not list(RUN.glob("stages/*.partial-*"))
        shutil.rmtree(RUN)
    two, one = found
    assert list(two) == [(name, arm) for name in ("CGCNN", "trees", "stack") for arm in ("F", "F+G_F")]
    assert two["trees", "F"] == one["trees", "F"]  # no network takes part
    for (name, arm), mae in one.items():
        assert two[name, arm] == pytest.approx(mae, rel=REAL_TOLERANCE if arm == "F" else SYNTHETIC_TOLERANCE)


def test_several_labels_are_learned_alike() -> None:
    write_small_table(Path("other.xyz"), count=118)
    labels = {"predictor_pretraining.labels": '{"other.xyz": ["band_gap"]}', "predictor_pretraining.own": "[band_gap]"}
    fit = {"predictor_pretraining.fit.max_epochs": 3, "predictor_pretraining.fit.batch_size": 16}
    command = _command("full", arms="[F]", baselines="[]", **labels, **fit)
    maes, losses = [], []
    for run in (_on_two("lightning", command), [sys.executable, *MODULE, *command]):
        subprocess.run(run, check=True, timeout=900)
        maes.append(read_results(RUN / "results.csv")[0].test_mae)
        stage = json.loads((RUN / "ledger.json").read_text())["stages"]["predictor-pretraining"]
        losses.append(stage["metrics"]["val/loss"])
        shutil.rmtree(RUN)
    assert losses[1] == pytest.approx(losses[0], rel=REAL_TOLERANCE)
    assert maes[1] == pytest.approx(maes[0], rel=REAL_TOLERANCE)


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_a_process_that_dies_takes_the_run_down_and_the_rerun_continues(launcher: Launcher) -> None:
    wheel = _command(
        "full",
        arms='["G_F"]',
        baselines="[]",
        generator_fit__max_epochs=30,
        prior="DiffusionPrior",  # one that trains
        prior_fit__max_epochs=30,
        prior__sampler__num_steps=25,
        synthetic_ratio=2,
    )
    command = _on_two(launcher, wheel)

    generator = "stages/generator.partial-*/last.ckpt"
    printed = _run_and_kill(command, rank=1, when=lambda: bool(list(RUN.glob(generator))))
    assert _says_who_died(launcher, printed), printed
    epoch = _epochs()
    assert epoch >= 1

    prior = "stages/prior.partial-*/last.ckpt"
    printed = _run_and_end(command, when=lambda: bool(list(RUN.glob(prior))))
    assert "] generator: resumed" in printed
    assert "received SIGTERM: the run ends here, the same command continues it" in printed

    chunks = "stages/samples.partial-*/parts/*.npz"
    printed = _run_and_kill(command, rank=0, when=lambda: bool(list(RUN.glob(chunks))))
    assert "] prior: resumed" in printed
    made = {path.name: path.stat().st_mtime_ns for path in RUN.glob(chunks)}
    assert 0 < len(made) < 14
    finished = _ledger()["generator"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    assert "] generator: finished before, skipped" in done.stderr
    assert "] samples: resumed" in done.stderr
    assert _ledger()["generator"] == finished
    parts = {path.name: path.stat().st_mtime_ns for path in RUN.glob("stages/samples/parts/*.npz")}
    assert len(parts) == 14
    assert made.items() <= parts.items()  # none was made again
    assert [row.arm for row in read_results(RUN / "results.csv")] == ["G_F"]


def _run_and_kill(command: list[str], rank: int, when: Callable[[], bool]) -> str:
    """Start a run, kill one of its ranks at some time, and return what it printed; nothing may be left of it."""
    return _run_and_signal(command, when, lambda run: os.kill(_ranks(run.pid)[rank], signal.SIGKILL))


def _run_and_end(command: list[str], when: Callable[[], bool]) -> str:
    """The same, but the run is asked to end."""
    return _run_and_signal(command, when, lambda run: run.send_signal(signal.SIGTERM))


def _run_and_signal(
    command: list[str], when: Callable[[], bool], send: Callable[[subprocess.Popen[bytes]], object]
) -> str:
    with Path("out").open("w") as out, _ended(subprocess.Popen(command, stdout=out, stderr=out)) as run:
        deadline = time.monotonic() + 900
        while not when():
            assert run.poll() is None, Path("out").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        send(run)
        killed = time.monotonic()
        assert run.wait(60) != 0
        while _ranks(run.pid):
            assert time.monotonic() < killed + 60, "a process was left"
            time.sleep(0.2)
        print(f"all ended {time.monotonic() - killed:.1f} s after the signal")
    return Path("out").read_text()


@contextmanager
def _ended(run: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leave no process behind when a test fails."""
    try:
        yield run
    finally:
        for pid in {*_ranks(run.pid).values(), run.pid} if run.poll() is None else _ranks(run.pid).values():
            os.kill(pid, signal.SIGKILL)
        run.wait()


def _ranks(launched: int) -> dict[int, int]:
    """Process id of each rank of the run of this test that is alive."""
    ranks = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = dict(
                entry.partition("=")[::2] for entry in (folder / "environ").read_text().split("\0") if "=" in entry
            )
            arguments = (folder / "cmdline").read_text()
        except OSError:
            continue
        pid = int(folder.name)
        is_run = environment.get("MATWHEEL_TEST") == os.environ["MATWHEEL_TEST"] and pid != os.getpid()
        if not is_run or not arguments:
            continue
        if "LOCAL_RANK" in environment:
            ranks[int(environment["LOCAL_RANK"])] = pid
        elif pid == launched and "torch.distributed.run" not in arguments:
            ranks[0] = pid  # Lightning's launcher is the first process
    return ranks


def _says_who_died(launcher: Launcher, printed: str) -> bool:
    if launcher == "torchrun":
        return "Signal 9 (SIGKILL) received by PID" in printed
    return re.search(r"rank 1 \(process \d+\) ended with SIGKILL|terminated with code -9", printed) is not None


def _ledger() -> dict[str, dict[str, object]]:
    stages: dict[str, dict[str, object]] = json.loads((RUN / "ledger.json").read_text())["stages"]
    return stages


def _epochs() -> int:
    """Epochs of the generator that were finished."""
    tables = list(RUN.glob("stages/generator.partial-*/logs/version_*/metrics.csv"))
    return max(len(pd.read_csv(table)["epoch"].unique()) for table in tables)
