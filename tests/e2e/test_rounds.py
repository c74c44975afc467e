"""Several turns of the wheel."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

import matwheel.flywheel.generation
import matwheel.flywheel.turn
from matwheel.data.crystal import CrystalTable
from matwheel.flywheel.labels import PredictorLabels
from matwheel.flywheel.results import read_results
from matwheel.flywheel.rounds import read_rounds
from tests.e2e.toy_wheel import attempts, changed, ledger, spin

TWO: dict[str, Any] = {"rounds": 2, "labelled_fraction": 0.5, "arms": ("S", "S+P", "S x k", "S+G_S"), "baselines": ()}


def _crystals(folder: Path, stage: str) -> CrystalTable:
    return CrystalTable.load(folder / "stages" / stage / "crystals.npz")


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    spin(folder, table, **TWO)
    return folder


def test_rows(finished: Path) -> None:
    results = read_results(finished / "results.csv")
    counts = [len(_crystals(finished, stage)) for stage in ("crystals", "crystals-round-2")]
    assert [(row.arm, row.round, row.n_real, row.n_synthetic) for row in results] == [
        ("S", 0, 12, 0),
        ("S+P", 1, 24, 0),
        ("S x k", 1, 12 + counts[0], 0),
        ("S+G_S", 1, 12, counts[0]),
        ("S+P", 2, 24, 0),
        ("S x k", 2, 12 + counts[1], 0),
        ("S+G_S", 2, 12, counts[1]),
    ]
    rounds = read_rounds(finished / "rounds.csv")
    assert [(row.round, row.arm, row.n_synthetic) for row in rounds] == [
        (0, "S", 0),
        (1, "S+G_S", counts[0]),
        (2, "S+G_S", counts[1]),
    ]
    assert [row.val_mae for row in rounds] == [results[k].val_mae for k in (0, 3, 6)]
    assert [row.test_mae for row in rounds] == [results[k].test_mae for k in (0, 3, 6)]
    real, *synthetic = rounds
    assert real.element_drift == 0
    for row in synthetic:
        assert 0 < row.element_drift <= 1
        assert row.diversity > 0
        assert row.nearest_training > 0
        assert 2 < row.label_q05 < row.label_q50 < row.label_q95 < 300


def test_each_round_is_taught_by_the_one_before(finished: Path) -> None:
    stages = ledger(finished)
    assert stages["pseudo-labels"]["inputs"]["teacher 1"] == stages["predictor-S"]["key"]
    assert stages["pseudo-labels-round-2"]["inputs"]["teacher 1"] == stages["predictor-S+G_S"]["key"]
    assert stages["generator"]["inputs"]["data"] != stages["generator-round-2"]["inputs"]["data"]
    labels = [
        pd.read_parquet(finished / "stages" / f"pseudo-labels{suffix}" / "labels.parquet")["label"]
        for suffix in ("", "-round-2")
    ]
    assert not np.allclose(*labels)
    for number, suffix in ((1, ""), (2, "-round-2")):
        crystals = _crystals(finished, f"crystals{suffix}")
        assert {json.loads(origin)["round"] for origin in crystals.origins} == {number}


def test_a_rerun_skips_everything_and_another_run_gives_the_same(
    finished: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = attempts(finished)
    spin(finished, table, **TWO)
    assert attempts(finished) == before
    printed = capsys.readouterr().out
    assert "element drift" in printed
    assert "rounds.csv" in printed
    spin(tmp_path, table, **TWO)
    assert (tmp_path / "rounds.csv").read_text() == (finished / "rounds.csv").read_text()
    columns = ["arm", "round", "n_real", "n_synthetic", "test_mae", "val_mae"]
    one, other = (pd.read_csv(folder / "results.csv")[columns] for folder in (finished, tmp_path))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_further_round_leaves_the_earlier_ones(table: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"arms": ("F+G_F",), "baselines": (), "labeller": PredictorLabels()}
    spin(tmp_path, table, **options)
    before = attempts(tmp_path)
    spin(tmp_path, table, rounds=2, **options)
    new = changed(before, attempts(tmp_path))
    parts = ("generator", "prior", "conditions", "samples", "crystals", "labels", "statistics", "predictor-F+G_F")
    assert new == {f"{part}-round-2" for part in parts}
    stages = ledger(tmp_path)
    assert stages["labels"]["inputs"]["teacher 1"] == stages["predictor-F"]["key"]
    assert stages["labels-round-2"]["inputs"]["teacher 1"] == stages["predictor-F+G_F"]["key"]
    assert np.isnan(read_rounds(tmp_path / "rounds.csv")[0].val_mae)  # F was not among the arms


def test_crystals_are_kept_and_generators_continue(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_from: dict[str, dict[str, Any]] = {}

    def watch(function: str) -> None:
        original = getattr(matwheel.flywheel.generation, function)

        def spy(model: L.LightningModule, *args: Any) -> dict[str, float]:
            folder = next(arg for arg in args if isinstance(arg, Path))
            started_from[folder.name.partition(".")[0]] = copy.deepcopy(model.state_dict())
            return original(model, *args)

        monkeypatch.setattr(matwheel.flywheel.generation, function, spy)

    watch("train_generator")
    watch("train_prior")
    options: dict[str, Any] = {"arms": ("F+G_F",), "baselines": (), "rounds": 2, "keep_crystals": True}
    spin(tmp_path, table, continue_generator=True, **options)
    for part, weights in (("generator", "encoder.embedding.weight"), ("prior", "network.middle.weight")):
        earlier = torch.load(tmp_path / "stages" / part / "best.ckpt", weights_only=True)["state_dict"]
        assert torch.equal(started_from[f"{part}-round-2"][weights], earlier[weights])
        assert not torch.equal(started_from[part][weights], earlier[weights])

    first, both = _crystals(tmp_path, "crystals"), _crystals(tmp_path, "crystals-round-2")
    assert both.ids[: len(first)].tolist() == first.ids.tolist()
    assert len(both) > len(first)
    assert {json.loads(origin)["round"] for origin in both.origins[len(first) :]} == {2}
    assert read_results(tmp_path / "results.csv")[-1].n_synthetic == len(both)

    before = attempts(tmp_path)
    spin(tmp_path, table, **options)  # a fresh generator in round 2
    redone = changed(before, attempts(tmp_path))
    assert {"generator-round-2", "prior-round-2", "crystals-round-2"} <= redone
    assert all(name.endswith("-round-2") for name in redone)


def test_the_wheel_stops_and_the_best_round_wins(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = matwheel.flywheel.turn.train_predictor
    errors: Iterator[float] = iter([2.0, 2.5, 1.0])

    def judged(*args: Any) -> dict[str, float]:
        return {**original(*args), "val_mae": next(errors)}

    monkeypatch.setattr(matwheel.flywheel.turn, "train_predictor", judged)
    trainer, _ = spin(tmp_path, table, arms=("F+G_F",), baselines=(), rounds=3, patience=1)
    assert [row.val_mae for row in read_rounds(tmp_path / "rounds.csv")[1:]] == [2.0, 2.5]
    best = tmp_path / "stages" / "predictor-F+G_F" / "best.ckpt"
    weights = torch.load(best, weights_only=True)["state_dict"]
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, weights[name]), name
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert set(data.synthetic.ids) == set(_crystals(tmp_path, "crystals").ids)


def test_the_last_arm_must_change_between_rounds(table: Path, tmp_path: Path) -> None:
    for arms in (("F+G_F", "F"), ("F+G_F", "F x k")):
        with pytest.raises(ValueError, match=f"the last arm, '{arms[1]}'"):
            spin(tmp_path, table, arms=arms, rounds=2)
