"""Faults in the middle of a wheel: what is reported, what is kept, and how it goes on."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from matwheel.data.crystal import CrystalTable
from matwheel.files import WriteError
from matwheel.flywheel.filters import BasicFilter, Filter, FilterResult, FilterStep, NoCrystalLeftError
from matwheel.flywheel.results import read_results
from matwheel.models.predictor import PropertyPredictor
from matwheel.user_errors import shown_as_messages
from tests.disk import files_up_to
from tests.e2e.toy_wheel import attempts, changed, spin


class UselessFrom(Filter):
    """Keeps everything in the first calls, nothing afterwards."""

    calls = 0

    def __init__(self, good: int) -> None:
        self.good = good

    def apply(self, samples: CrystalTable, training: CrystalTable) -> FilterResult:
        type(self).calls += 1
        kept = len(samples) if self.calls <= self.good else 0
        return FilterResult(samples.take(np.arange(kept)), (FilterStep("luck", len(samples), kept),))


def arms(folder: Path) -> list[tuple[str, int]]:
    return [(row.arm, row.round) for row in read_results(folder / "results.csv")]


def test_arms_without_synthetic_crystals_are_reported_in_any_order(table: Path, tmp_path: Path) -> None:
    message = r"no generated crystal passed .* \(cell \d+/24, structure 0/.*Round 1 has no results of G_F, F x k$"
    with pytest.raises(NoCrystalLeftError, match=message):
        spin(tmp_path, table, filter=BasicFilter(min_volume=1e9), arms=("G_F", "F x k", "F"), baselines=("dummy",))
    assert arms(tmp_path) == [("dummy", 0), ("F", 0)]


def test_a_useless_generator_of_pseudo_labels(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, shown_as_messages():
        spin(
            tmp_path,
            table,
            labelled_fraction=0.5,
            filter=BasicFilter(min_volume=1e9),
            arms=("S", "S x k", "G_S", "S+G_true", "S+G_S", "S+P"),
            baselines=(),
        )
    assert stop.value.code == 1
    assert [arm for arm, _ in arms(tmp_path)] == ["S", "S+P"]
    printed = capsys.readouterr()
    assert "S+P" in printed.out
    assert "Round 1 has no results of S x k, G_S, S+G_true, S+G_S" in printed.err
    assert len(printed.err.splitlines()[-2]) < 400


def test_a_generator_that_fails_in_a_later_round(table: Path, tmp_path: Path) -> None:
    UselessFrom.calls = 0
    with pytest.raises(NoCrystalLeftError, match=r"\(luck 0/24\).*Round 2 has no results of G_F, F\+G_F$"):
        spin(tmp_path, table, filter=UselessFrom(1), arms=("F", "G_F", "F+G_F"), baselines=(), rounds=2)
    assert arms(tmp_path) == [("F", 0), ("G_F", 1), ("F+G_F", 1)]
    assert pd.read_csv(tmp_path / "rounds.csv")["round"].tolist() == [0, 1]


def test_a_full_disk_and_damaged_files_of_a_finished_stage(table: Path, tmp_path: Path) -> None:
    wheel = {"arms": ("F", "G_F"), "baselines": ("dummy",)}
    spin(tmp_path / "whole", table, **wheel)
    folder = tmp_path / "run"
    with pytest.raises(WriteError, match=r"cannot write .*best\.ckpt: .*; free some space"), files_up_to(12_000):
        spin(folder, table, **wheel)
    assert not list(folder.rglob("*.tmp"))
    assert not list(folder.rglob("*.ckpt"))
    assert arms(folder) == [("dummy", 0)]
    spin(folder, table, **wheel)
    columns = ["arm", "test_mae", "val_mae", "n_synthetic"]
    ours, theirs = (pd.read_csv(path / "results.csv")[columns] for path in (folder, tmp_path / "whole"))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)

    before = attempts(folder)
    for stage, file, gone in (
        ("samples", "samples.npz", "crystals"),
        ("conditions", "conditions.parquet", "samples"),
        ("prior", "best.ckpt", "samples"),
        ("generator", "best.ckpt", "prior"),
    ):
        path = folder / "stages" / stage / file
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        shutil.rmtree(folder / "stages" / gone, ignore_errors=True)  # this stage must run, and needs the file
        message = rf"{stage}/{file} is not a .* that can be read.*elete (the|this) folder .*{stage}"
        with pytest.raises(ValueError, match=message):
            spin(folder, table, **wheel)
        path.write_bytes(good)
    spin(folder, table, **wheel)
    assert {"generator", "conditions"} & changed(before, attempts(folder)) == set()


def test_a_diverging_wheel_keeps_what_is_finished(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = PropertyPredictor.training_step

    def diverge(self: PropertyPredictor, batch: object) -> object:
        loss = original(self, batch)  # type: ignore[arg-type]
        return loss * float("inf") if self.trainer.current_epoch == 1 else loss

    monkeypatch.setattr(PropertyPredictor, "training_step", diverge)
    with pytest.raises(FloatingPointError, match=r"not finite in batch 1 of epoch 1 for crystals .*broke the weights"):
        spin(tmp_path, table, arms=("F",), baselines=("dummy",))
    assert arms(tmp_path) == [("dummy", 0)]
    monkeypatch.undo()
    spin(tmp_path, table, arms=("F",), baselines=("dummy",))
    assert arms(tmp_path) == [("dummy", 0), ("F", 0)]
