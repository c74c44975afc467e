import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from matwheel.data import keys
from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.data.rows import Reason
from matwheel.data.splits import FileSplit, RandomSplit
from tests.data import samples as tables
from tests.data.samples import poscar
from tests.data.test_graphs import make_table


def write_csv(path: Path, table: CrystalTable, **targets: list[str]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "structure", *targets])
        for row, crystal in enumerate(table):
            writer.writerow([crystal.id, crystal.to_structure().to(fmt="cif"), *(t[row] for t in targets.values())])
    return str(path)


@pytest.fixture
def module(tmp_path):
    path = write_csv(tmp_path / "t.csv", make_table(20), gap=[str(1.5 * r) for r in range(20)], volume=["7"] * 20)
    module = CrystalDataModule(
        path, target="gap", split=RandomSplit(0.5, 0.25, 0.25), batch_size=4, cache_dir=tmp_path / "cache"
    )
    module.prepare_data()
    module.setup("fit")
    return module


def rows_of(loader) -> list[int]:
    return torch.cat([batch.row for batch in loader]).tolist()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_sites", 0, "max_sites must be at least 1, not 0"),
        ("max_neighbours", 0, "max_neighbours must be at least 1, not 0"),
        ("batch_size", -3, "batch_size must be at least 1, not -3"),
        ("num_workers", -1, "num_workers must be 0 or more, not -1"),
        ("cutoff", 0.0, "cutoff must be a finite distance above 0 A, not 0.0"),
        ("cutoff", float("inf"), "cutoff must be a finite distance above 0 A, not inf"),
        ("cutoff", float("nan"), "cutoff must be a finite distance above 0 A, not nan"),
    ],
)
def test_options_out_of_range_are_refused_at_once(name, value, message):
    with pytest.raises(ValueError, match=message):
        CrystalDataModule(**{name: value})


def test_crystals_without_neighbours_are_counted(tmp_path, caplog):
    path = write_csv(tmp_path / "t.csv", make_table(20), gap=[str(1.5 * r) for r in range(20)])
    CrystalDataModule(path, target="gap", cutoff=0.1, cache_dir=tmp_path / "cache").setup("fit")
    assert "20 of 20 crystals, such as " in caplog.text
    assert "no two atoms within the cutoff of 0.1 A" in caplog.text
    caplog.clear()
    CrystalDataModule(path, target="gap", cache_dir=tmp_path / "cache").setup("fit")
    assert "cutoff" not in caplog.text


def test_each_part_yields_its_rows(module):
    assert sorted(rows_of(module.train_dataloader())) == sorted(module.train_rows.tolist())
    assert rows_of(module.val_dataloader()) == module.val_rows.tolist()
    assert rows_of(module.test_dataloader()) == module.test_rows.tolist()
    everything = np.concatenate([module.train_rows, module.val_rows, module.test_rows])
    assert sorted(everything.tolist()) == list(range(20))


def test_a_batch_holds_what_is_described(module):
    """`keys.py` is the contract; the seed of a crystal is added in a training step."""
    described = {value for name, value in vars(keys).items() if name.isupper()}
    for loader in (module.train_dataloader(), module.val_dataloader(), module.predict_dataloader()):
        assert set(next(iter(loader)).keys()) == described - {keys.SEED}


def test_targets_belong_to_their_crystals(module):
    for batch in module.train_dataloader():
        for name, target, condition in zip(module.ids(batch.row), batch.target, batch.conditions, strict=True):
            assert float(target) == pytest.approx(1.5 * int(name[1:]))
            assert condition.tolist() == [float(target)]


def test_statistics_see_the_training_rows_only(module):
    statistics = module.training_statistics()
    np.testing.assert_allclose(statistics.target, module.table.properties["gap"][module.train_rows])
    np.testing.assert_array_equal(statistics.num_atoms, module.table.num_atoms[module.train_rows])


def test_synthetic_crystals_join_the_training_set_only(module):
    synthetic = make_table(3, seed=9).with_properties(gap=np.array([100.0, 200.0, 300.0]))
    mixed = module.with_training(synthetic=synthetic, synthetic_weight=0.5)
    batches = list(mixed.train_dataloader())
    target = torch.cat([b.target for b in batches])
    weight = torch.cat([b.weight for b in batches])
    assert len(target) == 13
    assert sorted(target[weight == 0.5].tolist()) == [100, 200, 300]
    assert mixed.training_weight.tolist() == [1.0] * 10 + [0.5] * 3  # in the order of the training table
    assert rows_of(mixed.val_dataloader()) == module.val_rows.tolist()
    assert float(mixed.training_statistics().target.max()) == 300
    ignored = module.with_training(synthetic=synthetic, synthetic_weight=0.0)
    assert ignored.training_statistics().target.tolist() == module.training_statistics().target.tolist()
    # The module it came from is unchanged.
    assert len(module.train_rows) == 10


def test_only_synthetic_and_repeated_rows(module):
    only = module.with_training(
        real_rows=np.zeros(0, np.int64), synthetic=make_table(3).with_properties(gap=np.ones(3))
    )
    assert len(rows_of(only.train_dataloader())) == 3
    twice = module.with_training(real_rows=np.tile(module.train_rows, 2))
    assert sorted(rows_of(twice.train_dataloader())) == sorted(2 * module.train_rows.tolist())


def test_test_rows_cannot_be_trained_on(module):
    with pytest.raises(ValueError, match="belong to validation or test"):
        module.use_training(real_rows=module.test_rows)


def test_other_targets(module):
    rows, before = module.train_rows[:3], module.table.properties["gap"].copy()
    other = module.with_targets(rows, np.array([100.0, 200.0, np.nan]))
    np.testing.assert_array_equal(other.table.properties["gap"][rows], [100.0, 200.0, np.nan])
    rest = np.setdiff1d(np.arange(20), rows)
    np.testing.assert_array_equal(other.table.properties["gap"][rest], before[rest])
    np.testing.assert_array_equal(module.table.properties["gap"], before)
    assert rows_of(other.ordered_dataloader()) == module.train_rows.tolist()
    batch = next(iter(other.with_training(rows[[1, 0]]).ordered_dataloader()))
    assert batch.row.tolist() == rows[[1, 0]].tolist()
    assert batch.target.tolist() == [200.0, 100.0]
    assert batch.conditions.tolist() == [[200.0], [100.0]]
    with pytest.raises(ValueError, match="cannot be given other labels"):
        module.with_targets(module.val_rows[:1], np.zeros(1))


def test_prediction_needs_no_target(tmp_path):
    path = write_csv(tmp_path / "new.csv", make_table(5), note=["a"] * 5)
    module = CrystalDataModule(path, target="gap", cache_dir=tmp_path / "cache")
    module.prepare_data()
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert rows_of(batches) == list(range(5))
    assert torch.isnan(batches[0].target).all()


def test_unlabelled_rows_stay_in_the_table_but_not_in_the_split(tmp_path):
    gap = [str(r) if r != 3 else "nan" for r in range(10)]
    path = write_csv(tmp_path / "t.csv", make_table(10), gap=gap)
    module = CrystalDataModule(path, target="gap", cache_dir=tmp_path / "cache")
    module.prepare_data()
    module.setup("fit")
    assert len(module.table) == 10
    used = np.concatenate([module.train_rows, module.val_rows, module.test_rows])
    assert sorted(module.table.ids[used].tolist()) == sorted(f"c{r}" for r in range(10) if r != 3)
    assert [bad.id for bad in module.report.bad] == ["c3"]


def test_unlabelled_rows_are_trained_on_if_wanted(tmp_path, caplog):
    table = make_table(16)
    structures = [poscar(crystal.to_structure()) for crystal in table]
    labels = [str(row) if row % 2 else "" for row in range(16)]
    rows = [[f"id-{row}", structures[row], labels[row], "1"] for row in range(16)]
    rows[4][3] = ""  # without a condition
    rows[6][2] = "high"  # text is no missing value
    rows += [["again", structures[3], "", "1"], ["first", structures[8], "8.5", "1"]]
    path = tables.write_csv(tmp_path / "t.csv", ["id", "structure", "y", "c"], rows)
    options = {"target": "y", "conditions": ["y", "c"], "split": RandomSplit(0.6, 0.2, 0.2), "cache_dir": tmp_path}
    module = CrystalDataModule(str(path), use_unlabelled=True, **options)
    module.setup("fit")
    split = module.split_rows
    assert set(split.train) - set(split.labelled) == {0, 2, 10, 12, 14}
    assert sorted([*split.labelled, *split.val, *split.test]) == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert module.train_rows.tolist() == split.labelled.tolist()
    found = {bad.id: bad.reason for bad in module.report.bad}
    assert found == {
        "id-4": Reason.MISSING,
        "id-6": Reason.NOT_A_NUMBER,
        "id-8": Reason.REPEATED,
        "again": Reason.REPEATED,
    }
    split.save(tmp_path / "split.json", module.table)
    again = CrystalDataModule(
        str(path), use_unlabelled=True, **{**options, "split": FileSplit(tmp_path / "split.json")}
    )
    again.setup("fit")
    assert set(again.split_rows.train) == set(split.train)
    assert again.split_rows.test.tolist() == split.test.tolist()

    without = CrystalDataModule(str(path), labelled_fraction=0.5, **options)
    without.setup("fit")
    assert "labels are hidden (labelled_fraction 0.5) while 8 crystals without a label are left out" in caplog.text


def test_setup_twice_changes_nothing(module):
    module.use_training(real_rows=module.train_rows[:2])
    module.setup("fit")
    assert len(module.train_rows) == 2


def test_published_split_of_the_embedded_data(shared_data, tmp_path):
    from matwheel.data.splits import FileSplit

    split = FileSplit(shared_data / "mp_poly_total.moe_splits.json", index=2)
    module = CrystalDataModule(split=split, labelled_fraction=0.1, cache_dir=tmp_path)
    module.prepare_data()
    module.setup("fit")
    assert (len(module.train_rows), len(module.val_rows), len(module.test_rows)) == (73, 158, 158)
    assert module.split_rows is not None
    assert len(module.split_rows.train) == 739


def test_processes_share_a_batch(module):
    assert next(iter(module.train_dataloader())).num_graphs == 4
    module.trainer = SimpleNamespace(world_size=3, global_rank=0)
    assert next(iter(module.train_dataloader())).num_graphs == 2
