"""The semi-supervised scenario: labels, arms, and that hidden labels stay hidden."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from ase.io import read, write

from matwheel.checkpoint_file import read_checkpoint
from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.flywheel.arms import Scenario
from matwheel.flywheel.labels import ConditionLabels, MeanLabels, ModelLabels
from matwheel.flywheel.results import read_results
from matwheel.flywheel.trainers import StageTrainers
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latents import LatentDataModule
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from tests.e2e.toy_wheel import attempts, changed, ledger, spin, toy_data

SEEN = ("S+G_true", "generator-true", "prior-true", "conditions-true", "samples-true", "crystals-true", "labels-true")
"""All that may depend on hidden labels."""


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("semi")
    arms = ("S", "S+P", "S x k", "G_S", "S+G_true", "G_S then S", "S+G_S")
    spin(folder, table, labelled_fraction=0.5, num_teachers=2, arms=arms)
    return folder


def _rows(table: Path) -> CrystalDataModule:
    data = toy_data(table, 0.5)
    data.setup("fit")
    return data


def _hidden_ids(table: Path) -> set[str]:
    data = _rows(table)
    assert data.split_rows is not None
    return set(data.table.ids[data.split_rows.train]) - set(data.table.ids[data.split_rows.labelled])


def _poisoned(table: Path, path: Path, label: float = -1e4) -> Path:
    """The same table with wild labels of the unlabelled crystals, or none."""
    hidden = _hidden_ids(table)
    frames = read(table, ":")
    for number, atoms in enumerate(frames):
        if atoms.info["id"] in hidden:
            atoms.info["poly_total"] = label * (number + 1)
    write(path, frames, format="extxyz")
    return path


def test_arms(finished: Path) -> None:
    rows = {row.arm: row for row in read_results(finished / "results.csv")}
    n = {
        suffix: len(CrystalTable.load(finished / "stages" / f"crystals{suffix}" / "crystals.npz"))
        for suffix in ("", "-true")
    }
    assert {name: (row.n_real, row.n_synthetic, row.round) for name, row in rows.items()} == {
        "dummy": (12, 0, 0),
        "trees": (12, 0, 0),
        "S": (12, 0, 0),
        "S+P": (24, 0, 1),
        "S x k": (12 + n[""], 0, 1),
        "G_S": (0, n[""], 1),
        "S+G_true": (12, n["-true"], 1),
        "G_S then S": (12, n[""], 1),
        "S+G_S": (12, n[""], 1),
    }
    assert {row.scenario for row in rows.values()} == {"semi"}


def test_the_generator_learns_from_all_structures(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the labelled ones alone: that is what pseudo-labels are for."""
    seen: dict[str, CrystalTable] = {}
    original = StageTrainers.fit

    def noted(
        self: StageTrainers, model: L.LightningModule, data: Any, folder: Path, *args: Any, **options: Any
    ) -> Any:
        metrics = original(self, model, data, folder, *args, **options)
        crystals = data.crystals if isinstance(data, LatentDataModule) else data
        seen[folder.name.partition(".")[0]] = crystals.training_table
        return metrics

    monkeypatch.setattr(StageTrainers, "fit", noted)
    spin(tmp_path, table, labelled_fraction=0.5, arms=("S", "G_S", "S+G_true"), baselines=())
    data = _rows(table)
    assert data.split_rows is not None
    training = data.table.take(data.split_rows.train)
    labels = pd.read_parquet(tmp_path / "stages" / "pseudo-labels" / "labels.parquet")
    assert len(seen["predictor-S"]) == 12
    for end, expected in (("", labels["label"].to_numpy()), ("-true", training.properties["poly_total"])):
        for stage in ("generator", "prior"):
            assert seen[f"{stage}{end}"].ids.tolist() == training.ids.tolist()
            np.testing.assert_array_equal(seen[f"{stage}{end}"].properties["poly_total"], expected)


def test_a_prior_without_training_holds_all_structures(table: Path, tmp_path: Path) -> None:
    spin(tmp_path, table, labelled_fraction=0.5, arms=("S", "G_S"), baselines=(), prior=KernelPrior)
    state = read_checkpoint(tmp_path / "stages" / "prior" / "best.ckpt")["state_dict"]
    assert len(state["density.latents"]) == 24


def test_all_structures_get_the_mean_label_of_the_teachers(finished: Path, table: Path) -> None:
    data = _rows(table)
    assert data.split_rows is not None
    stages = ledger(finished)
    teachers = ["predictor-S", "predictor-S-teacher-2"]
    inputs = stages["pseudo-labels"]["inputs"]
    assert [inputs[f"teacher {number}"] for number in (1, 2)] == [stages[name]["key"] for name in teachers]
    predictions = []
    for name in teachers:
        model = PropertyPredictor(CGCNN(hidden_dim=8, num_convs=1, head_dim=8))
        checkpoint = torch.load(finished / "stages" / name / "best.ckpt", weights_only=True)
        model.load_state_dict(checkpoint["state_dict"])
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        parts = trainer.predict(model, data.with_training(data.split_rows.train).ordered_dataloader())
        predictions.append(torch.cat([part.value for part in parts or []]).numpy())
    assert not np.allclose(*predictions, rtol=1e-3)
    labels = pd.read_parquet(finished / "stages" / "pseudo-labels" / "labels.parquet")
    assert labels["id"].tolist() == data.table.ids[data.split_rows.train].tolist()
    np.testing.assert_allclose(labels["label"], np.mean(predictions, 0), rtol=1e-5)


def test_the_generator_is_asked_for_what_it_was_taught(finished: Path, table: Path) -> None:
    labels = pd.read_parquet(finished / "stages" / "pseudo-labels" / "labels.parquet")["label"]
    asked = pd.read_parquet(finished / "stages" / "conditions" / "conditions.parquet")["poly_total"]
    assert len(asked) == 24
    assert asked.between(labels.min() * 0.9999, labels.max() * 1.0001).all()
    data = _rows(table)
    assert data.split_rows is not None
    true = data.table.properties["poly_total"][data.split_rows.train]
    asked_of_control = pd.read_parquet(finished / "stages" / "conditions-true" / "conditions.parquet")["poly_total"]
    assert asked_of_control.between(true.min(), true.max()).all()
    assert asked_of_control.max() > labels.max()


def test_hidden_labels_are_not_looked_at(finished: Path, table: Path, tmp_path: Path) -> None:
    poisoned = _poisoned(table, tmp_path / table.name)  # the name of the data set is part of the results
    arms = ("S", "S+P", "S x k", "G_S", "G_S then S", "S+G_S")
    spin(tmp_path / "run", poisoned, labelled_fraction=0.5, num_teachers=2, arms=arms)
    before, after = ledger(finished), ledger(tmp_path / "run")
    assert set(before) - set(after) == {f"predictor-{SEEN[0]}", *SEEN[1:]}
    assert {name for name in after if after[name]["key"] != before[name]["key"]} == set()
    columns = ["arm", "n_real", "n_synthetic", "round", "test_mae", "val_mae", "test_r2"]
    results = [pd.read_csv(folder / "results.csv")[columns] for folder in (finished, tmp_path / "run")]
    expected = results[0][results[0]["arm"] != SEEN[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(expected, results[1], check_exact=True)
    assert (finished / "rounds.csv").read_text() == (tmp_path / "run" / "rounds.csv").read_text().replace(
        str(poisoned), str(table)
    )


def test_the_control_looks_at_hidden_labels(finished: Path, table: Path, tmp_path: Path) -> None:
    poisoned = _poisoned(table, tmp_path / table.name)
    spin(tmp_path / "run", poisoned, labelled_fraction=0.5, arms=("S+G_true",), baselines=())
    asked = pd.read_parquet(tmp_path / "run" / "stages" / "conditions-true" / "conditions.parquet")["poly_total"]
    assert asked.min() < -1e4
    assert "pseudo-labels" not in ledger(tmp_path / "run")


def test_a_rerun_skips_everything_and_another_labeller_redoes_what_it_labels(finished: Path, table: Path) -> None:
    arms = ("S", "S+P", "S x k", "G_S", "S+G_true", "G_S then S", "S+G_S")
    options = {"labelled_fraction": 0.5, "num_teachers": 2, "arms": arms}
    before, tables = attempts(finished), [(finished / name).read_text() for name in ("results.csv", "rounds.csv")]
    spin(finished, table, **options)  # type: ignore[arg-type]
    assert attempts(finished) == before
    assert [(finished / name).read_text() for name in ("results.csv", "rounds.csv")] == tables
    labeller = MeanLabels([ConditionLabels(), ModelLabels()])
    spin(finished, table, labeller=labeller, **options)  # type: ignore[arg-type]
    synthetic = {"G_S", "S+G_true", "G_S_then_S", "S+G_S"}
    assert changed(before, attempts(finished)) == {
        "labels",
        "labels-true",
        "statistics",
        "predictor-S-by-trees",
        *(f"predictor-{name}" for name in synthetic),
    }


def test_crystals_to_label_in_another_order_are_labelled_again(table: Path, tmp_path: Path) -> None:
    """Labels are given by position: those of the same crystals listed in another order are not theirs."""
    data = _rows(table)
    assert data.split_rows is not None
    labelled, hidden = data.split_rows.labelled, np.setdiff1d(data.split_rows.train, data.split_rows.labelled)
    records = []
    for others in (hidden, hidden[::-1]):
        parts = {"train": [*labelled, *others], "val": data.val_rows, "test": data.test_rows, "labelled": labelled}
        content = {name: [int(row) for row in rows] for name, rows in parts.items()}
        (tmp_path / "split.json").write_text(json.dumps(content))
        listed = toy_data(table, 0.5)
        listed.split = FileSplit(tmp_path / "split.json")
        spin(tmp_path / "run", table, data=listed, arms=("S", "S+P"), baselines=())
        records.append(attempts(tmp_path / "run"))
    assert changed(*records) == {"pseudo-labels", "predictor-S+P"}
    labels = pd.read_parquet(tmp_path / "run" / "stages" / "pseudo-labels" / "labels.parquet")
    assert labels["id"].tolist() == data.table.ids[[*labelled, *hidden[::-1]]].tolist()


def test_crystals_that_nobody_labelled_are_learned_from(table: Path, tmp_path: Path) -> None:
    """Labels erased in the table are as good as hidden ones."""
    erased = _poisoned(table, tmp_path / "erased.extxyz", np.nan)
    split = _rows(table).split_rows
    assert split is not None
    split.save(tmp_path / "split.json", _rows(table).table)
    results, labels = [], []
    for name, path, fraction in (("hidden", table, 0.5), ("erased", erased, 1.0)):
        data = toy_data(path, fraction)
        data.split, data.use_unlabelled = FileSplit(tmp_path / "split.json"), True
        spin(tmp_path / name, path, data=data, num_teachers=2, arms=("S", "S+P", "S+G_S"), baselines=())
        results.append(read_results(tmp_path / name / "results.csv"))
        found = pd.read_parquet(tmp_path / name / "stages" / "pseudo-labels" / "labels.parquet")
        labels.append(found.set_index("id")["label"].sort_index())
    for rows in results:
        assert [(row.arm, row.scenario, row.n_real) for row in rows] == [
            ("S", "semi", 12),
            ("S+P", "semi", 24),
            ("S+G_S", "semi", 12),
        ]
    assert results[0][0].test_mae == results[1][0].test_mae
    assert labels[0].index.tolist() == sorted(_rows(table).table.ids[split.train])
    pd.testing.assert_series_equal(*labels, rtol=1e-5)


def test_without_all_labels_there_is_no_control_that_knows_them(table: Path, tmp_path: Path) -> None:
    erased = _poisoned(table, tmp_path / "erased.extxyz", np.nan)
    data = toy_data(erased)
    data.setup("fit")
    assert (Scenario(data).name, len(data.train_rows)) == ("full", 16)
    data = toy_data(erased)
    data.use_unlabelled = True
    data.setup("fit")
    assert not data.report.bad
    assert Scenario(data).default_arms == ("S", "S+P", "S x k", "G_S", "S+G_S")
    with pytest.raises(ValueError, match=r"no arm 'S\+G_true' where 16 of 28 .*; it needs the labels of all"):
        Scenario(data).check("S+G_true")


def test_arms_of_the_other_scenario_are_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no arm 'F' where 12 of 24 training crystals have a label: choose from 'S', 'S\+P'"
    ):
        spin(tmp_path, table, labelled_fraction=0.5, arms=("S", "F"))
    with pytest.raises(
        ValueError, match=r"no arm 'S' where 24 of 24 .* choose from 'F', .*; labelled_fraction below 1 hides labels"
    ):
        spin(tmp_path, table, arms=("S",))
