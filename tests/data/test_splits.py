import json
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.catalogue import load
from matwheel.data.compositions import reduced_composition
from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.rows import BadRow, Reason, RowReport
from matwheel.data.splits import FileSplit, GroupSplit, KFold, MatbenchFold, RandomSplit, SplitRows
from tests.data.samples import numbered_table


def parts(split: SplitRows) -> list[list[int]]:
    return [rows.tolist() for rows in (split.train, split.val, split.test, split.labelled)]


@settings(deadline=None)
@given(st.integers(3, 300), st.integers(0, 5), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_random_split_uses_every_row_once(n, seed, fraction):
    split = RandomSplit(seed=seed).split(numbered_table(n), fraction)
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(n))
    assert min(len(split.train), len(split.val), len(split.test)) >= 1
    assert set(split.labelled) <= set(split.train)
    assert len(split.labelled) == max(round(fraction * len(split.train)), 1)


def test_random_split_has_the_fractions_and_depends_on_the_seed():
    table = numbered_table(200)
    split = RandomSplit(seed=1).split(table)
    assert [len(rows) for rows in (split.train, split.val, split.test)] == [140, 30, 30]
    assert parts(split) == parts(RandomSplit(seed=1).split(table))
    assert parts(split) != parts(RandomSplit(seed=2).split(table))
    smaller = RandomSplit(train=0.2, val=0.1, test=0.1).split(table)
    assert [len(rows) for rows in (smaller.train, smaller.val, smaller.test)] == [40, 20, 20]


def table_of(compositions):
    table = numbered_table(len(compositions))
    crystals = [
        Crystal(crystal.id, crystal.lattice, crystal.frac_coords, np.array(numbers), crystal.properties)
        for crystal, numbers in zip(table.table, compositions, strict=True)
    ]
    return replace(table, table=CrystalTable.from_crystals(crystals))


@settings(deadline=None)
@given(st.integers(20, 100), st.integers(5, 30), st.sampled_from(["formula", "elements"]), st.integers(0, 1000))
def test_group_split_keeps_groups_together(n, n_elements, by, seed):
    compositions = np.random.default_rng(seed).integers(1, n_elements + 1, (n, 2))
    split = GroupSplit(by=by, seed=seed).split(table_of(compositions))
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(n))
    parts = [{tuple(sorted(set(compositions[row]))) for row in rows} for rows in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    largest = max(Counter(tuple(sorted(set(pair))) for pair in compositions).values())
    for rows in (split.val, split.test):
        assert 0.15 * n <= len(rows) < 0.15 * n + largest


def test_group_split_by_formula_parts_what_it_keeps_together_by_elements():
    table = load("mp_poly_total")
    for by in ("formula", "elements"):
        split = GroupSplit(by=by).split(table)
        assert abs(len(split.test) - 0.15 * len(table)) < 20
        formulas = [
            {reduced_composition(table.table[row].atomic_numbers) for row in rows} for rows in (split.train, split.test)
        ]
        assert not formulas[0] & formulas[1]
        systems = [{tuple(n for n, _ in formula) for formula in part} for part in formulas]
        assert bool(systems[0] & systems[1]) == (by == "formula")


def test_too_few_groups_are_named():
    with pytest.raises(ValueError, match="1 groups of equal formula, the largest of 30 of 30 rows"):
        GroupSplit().split(numbered_table(30))
    with pytest.raises(ValueError, match="leave some for training"):
        GroupSplit(val=0.5, test=0.5)


def test_labelled_rows_of_a_smaller_fraction_are_among_those_of_a_larger():
    table = numbered_table(200)
    few, many = (RandomSplit().split(table, fraction).labelled for fraction in (0.1, 0.3))
    assert set(few) < set(many)


def test_parts_may_be_empty():
    split = RandomSplit(train=1.0, val=0.0, test=0.0).split(numbered_table(1))
    assert parts(split) == [[0], [], [], [0]]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_labelled_fraction_is_a_fraction(fraction):
    with pytest.raises(ValueError, match="labelled_fraction"):
        RandomSplit().split(numbered_table(10), fraction)


def test_small_tables_say_how_many_rows_are_needed():
    with pytest.raises(ValueError, match="2 usable rows; this split needs at least 3"):
        RandomSplit().split(numbered_table(2))
    with pytest.raises(ValueError, match="4 usable rows; 5 folds need at least 5"):
        KFold().split(numbered_table(4))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomSplit(0.9, 0.2, 0.2),
        lambda: RandomSplit(0.0, 0.5, 0.5),
        lambda: RandomSplit(0.9, -0.1, 0.1),
        lambda: KFold(n_folds=1),
        lambda: KFold(n_folds=5, fold=5),
        lambda: KFold(val=1.0),
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"fraction|fold"):
        wrong()


@pytest.mark.parametrize("split", [RandomSplit(seed=-1), GroupSplit(seed=-1), KFold(seed=-1)])
def test_negative_seeds_are_refused(split):
    with pytest.raises(ValueError, match="seed of a split must be 0 or more, not -1"):
        split.split(numbered_table(20))


def test_folds_test_each_row_once():
    table = numbered_table(23)
    splits = [KFold(n_folds=4, fold=fold).split(table) for fold in range(4)]
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(23))
    for split in splits:
        assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(23))
        assert len(split.val) == round(0.15 * (23 - len(split.test)))


def test_overlapping_parts_are_refused():
    rows = np.arange(3)
    with pytest.raises(ValueError, match="twice"):
        SplitRows(rows, rows[:1], rows[:0], rows)
    with pytest.raises(ValueError, match="outside"):
        SplitRows(rows[:2], rows[2:], rows[:0], rows)


def test_saved_split_is_read_back(tmp_path):
    loaded = numbered_table(60)
    split = RandomSplit(seed=3).split(loaded, 0.25)
    split.save(tmp_path / "split.json", loaded.table)
    assert json.loads((tmp_path / "split.json").read_text())["val"][0] == f"id-{split.val[0]}"
    again = FileSplit(tmp_path / "split.json").split(loaded, 0.25)
    assert parts(again) == parts(split)
    assert parts(FileSplit(tmp_path / "split.json").split(loaded))[3] == split.train.tolist()
    with pytest.raises(ValueError, match="labels 10 of 42"):
        FileSplit(tmp_path / "split.json").split(loaded, 0.5)


def write(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_positions_refer_to_the_source(tmp_path, caplog):
    """Rows 1 and 4 of six were bad: positions in the file still mean rows of the source."""
    bad = (BadRow(1, "id-1", Reason.EMPTY, ""), BadRow(4, "id-4", Reason.EMPTY, ""))
    loaded = numbered_table(4, source_rows=[0, 2, 3, 5])
    loaded = type(loaded)(loaded.name, loaded.table, loaded.source_rows, RowReport("sample", 6, bad))
    path = write(tmp_path, {"train": [5, 4, 0], "val": ["id-2", "id-1"], "test": [3]})
    with caplog.at_level(logging.WARNING):
        split = FileSplit(path).split(loaded)
    assert parts(split) == [[3, 0], [1], [2], [3, 0]]
    assert "2 rows of the split are not usable or have no label: 4, id-1" in caplog.text


@pytest.mark.parametrize(
    ("content", "index", "message"),
    [
        ("{", 0, "not a JSON split file"),
        ("[]", 0, "not a split file"),
        ({}, 0, "list of ids or row positions under 'train'"),
        ({"train": 3}, 0, "list of ids"),
        ({"train": [0], "val": [99]}, 0, "names 99 under 'val'"),
        ({"train": [0], "val": ["mp-1"]}, 0, "made for another table"),
        ({"train": [0, -1]}, 0, "names -1"),
        ({"train": [0, True]}, 0, "names True"),
        ({"train": [0, 0]}, 0, "twice"),
        ({"train": [0], "test": [0]}, 0, "twice"),
        ({"train": [0]}, 1, "its index is 0"),
        ({"splits": [{"train": [0]}]}, 1, "no split 1"),
        ({"splits": [7]}, 0, "no split 0"),
        ({"train": []}, 0, "no row of 'train'"),
        ({"train": [0], "validation": [1]}, 0, "has 'validation': call it 'val'"),
    ],
)
def test_unusable_split_files_are_refused(tmp_path, content, index, message):
    with pytest.raises(ValueError, match=message):
        FileSplit(write(tmp_path, content), index).split(numbered_table(5))


def test_missing_split_file(tmp_path):
    with pytest.raises(ValueError, match="cannot read the split file"):
        FileSplit(tmp_path / "none.json").split(numbered_table(5))


@pytest.mark.parametrize("content", [{"fold_0": 1}, {"fold_0": {"train": 3}}, {"fold_0": {"train": ["x"], "test": []}}])
def test_unusable_fold_files_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"split\.json"):
        MatbenchFold(write(tmp_path, content)).split(numbered_table(5))


def test_published_splits(shared_data):
    path = shared_data / "mp_poly_total.moe_splits.json"
    published = json.loads(path.read_text())["splits"]
    loaded = load("mp_poly_total")
    for index, content in enumerate(published):
        split = FileSplit(path, index).split(loaded, labelled_fraction=0.1)
        assert parts(split) == [content[name] for name in ("train", "val", "test", "labelled_10pct")]
        assert [len(rows) for rows in parts(split)] == [739, 158, 158, 73]
    half = FileSplit(path, 0).split(loaded, labelled_fraction=0.5)
    assert len(half.labelled) == 370


def test_matbench_folds(shared_data):
    path = shared_data / "jarvis_2d_exfoliation.matbench_folds.json"
    loaded = load("jarvis_2d_exfoliation", shared_data)
    splits = [MatbenchFold(path, fold).split(loaded) for fold in range(5)]
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(636))
    assert [len(split.test) for split in splits] == [128, 127, 127, 127, 127]
    names = json.loads(path.read_text())["fold_2"]["test"]
    assert splits[2].test.tolist() == [int(name[-3:]) - 1 for name in names]
    assert len(splits[0].val) == round(0.15 * 508)
    with pytest.raises(ValueError, match="no fold_5"):
        MatbenchFold(path, 5).split(loaded)
