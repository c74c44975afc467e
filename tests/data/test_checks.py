import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matwheel.data.checks import (
    MAX_LENGTH,
    MAX_VOLUME,
    MIN_DISTANCE,
    MIN_VOLUME,
    BadStructureError,
    check_crystal,
    shortest_overlap,
    usable_rows,
)
from matwheel.data.crystal import Crystal
from matwheel.data.rows import BadRow, Reason, RowReport
from tests.data.samples import CAESIUM_CHLORIDE, SKEWED, numbered_table


def crystal(lattice, frac_coords, numbers=None) -> Crystal:
    frac = np.array(frac_coords, dtype=float).reshape(-1, 3)
    return Crystal("a", np.array(lattice, dtype=float), frac, np.array(numbers or [6] * len(frac), dtype=np.int64))


def reason_of(bad: Crystal) -> Reason:
    with pytest.raises(BadStructureError) as caught:
        check_crystal(bad)
    return caught.value.reason


def test_ordinary_crystals_pass():
    for structure in (CAESIUM_CHLORIDE, SKEWED):
        check_crystal(Crystal.from_structure(structure, "a"))


def test_monolayers_with_vacuum_and_isolated_atoms_pass():
    graphene = [[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 30]]
    check_crystal(crystal(graphene, [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]]))
    check_crystal(crystal(np.eye(3) * 9.9, [[0, 0, 0]]))


def test_all_elements_pass():
    for number in range(1, 101):
        check_crystal(crystal(np.eye(3) * 4, [[0, 0, 0]], [number]))
    assert reason_of(crystal(np.eye(3) * 4, [[0, 0, 0]], [101])) is Reason.ELEMENT


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (crystal(np.eye(3) * 4, []), Reason.EMPTY),
        (crystal(np.diag([4, 4, np.nan]), [[0, 0, 0]]), Reason.CELL),
        (crystal(np.eye(3) * 4, [[0, 0, np.inf]]), Reason.CELL),
        (crystal(np.diag([4, 4, 0]), [[0, 0, 0]]), Reason.CELL),
        (crystal(np.diag([0.9, 9, 9]), [[0, 0, 0]]), Reason.CELL),
        (crystal(np.diag([4, 4, MAX_LENGTH + 1]), [[0, 0, k / 200] for k in range(200)]), Reason.CELL),
        (crystal(np.eye(3) * (1.01 * MAX_VOLUME ** (1 / 3)), [[0, 0, 0]]), Reason.CELL),
        (crystal([[4, 0, 0], [4, 1e-3, 0], [0, 0, 4]], [[0, 0, 0]]), Reason.CELL),
        (crystal(np.eye(3) * 4, [[0, 0, 0], [0, 0, 0]]), Reason.OVERLAP),
        (crystal(np.eye(3) * 4, [[0, 0, 0.01], [0, 0, 0.99]]), Reason.OVERLAP),
    ],
)
def test_absurd_structures_are_refused(bad, reason):
    assert reason_of(bad) is reason


def test_dense_packing_is_refused_by_volume():
    assert MIN_VOLUME == 1.0
    frac = [[x / 4, y / 4, z / 4] for x in range(4) for y in range(4) for z in range(4)]
    assert reason_of(crystal(np.eye(3) * 3.9, frac)) is Reason.CELL


@settings(deadline=None)
@given(arrays(float, (4, 3), elements=st.floats(0, 0.999)), st.floats(1, 3))
def test_shortest_overlap_agrees_with_all_pairs(frac, length):
    """Against distances to all 27 images."""
    sample = crystal(np.array([[length, 0, 0], [0.3, length, 0], [0, -0.2, length]]), frac)
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    vectors = (frac[None, :, None] + images - frac[:, None, None]) @ sample.lattice
    distances = np.linalg.norm(vectors, axis=-1)
    distances[np.arange(4), np.arange(4), 13] = np.inf  # each atom itself
    expected = distances.min()
    found = shortest_overlap(sample)
    if abs(expected - MIN_DISTANCE) > 1e-6:
        assert (found is not None) == (expected < MIN_DISTANCE)
    if found is not None:
        assert found == pytest.approx(expected, abs=1e-9)


def test_missing_and_unusable_values_are_skipped_with_a_reason():
    loaded = numbered_table(6)
    values = np.array([1.0, np.nan, 3.0, np.inf, 1e300, 6.0])
    loaded = replace(
        loaded,
        table=loaded.table.with_properties(y=values, z=np.arange(6.0)),
        not_numbers={"y": {5: "about 6"}},
    )
    usable = usable_rows(loaded, required=["y", "z"])
    assert usable.source_rows.tolist() == [0, 2]
    assert usable.table.ids.tolist() == ["id-0", "id-2"]
    assert [(bad.row, bad.reason) for bad in usable.report.bad] == [
        (1, Reason.MISSING),
        (3, Reason.RANGE),
        (4, Reason.RANGE),
        (5, Reason.NOT_A_NUMBER),
    ]
    assert "about 6" in usable.report.bad[-1].detail
    assert len(usable_rows(loaded, required=["z"])) == 6


def test_max_sites_bounds_the_cell():
    loaded = numbered_table(3)
    assert len(usable_rows(loaded, max_sites=2)) == 3
    with pytest.raises(ValueError, match="too many sites"):
        usable_rows(loaded, max_sites=1)


def test_unknown_property_lists_those_there_are():
    with pytest.raises(ValueError, match=r"no numeric property 'x'; numeric properties: y"):
        usable_rows(numbered_table(3), required=["x"])
    with pytest.raises(ValueError, match="name the target"):
        numbered_table(3).choose_target(None)
    assert numbered_table(3).choose_target("y") == "y"
    assert replace(numbered_table(3), default_target="y").choose_target(None) == "y"


def test_all_bad_names_the_most_frequent_reason():
    loaded = numbered_table(3)
    loaded = replace(loaded, table=loaded.table.with_properties(y=np.array([np.nan, np.nan, np.inf])))
    with pytest.raises(ValueError, match=r"2 of 3 rows have the reason 'missing value', for example row 0 \(id-0\)"):
        usable_rows(loaded, required=["y"])


def test_report_for_terminal_and_file(tmp_path):
    assert RowReport("t", 3).summary() == "t: all 3 rows used"
    bad = [BadRow(row, f'a,"{row}"', Reason.CELL, "flat") for row in (7, 5, 3, 1)] + [
        BadRow(2, "b", Reason.EMPTY, "none")
    ]
    report = RowReport("t", 10).extended(bad)
    assert len(report) == 5
    assert report.counts() == {Reason.CELL: 4, Reason.EMPTY: 1}
    assert [row.row for row in report.bad] == [1, 2, 3, 5, 7]
    lines = report.summary().splitlines()
    assert lines[0] == "t: 5 of 10 rows used, 5 skipped"
    assert lines[1].startswith("  4 x absurd cell: a,")
    assert lines[1].endswith(", ... (flat)")
    report.to_csv(tmp_path / "bad.csv")
    with (tmp_path / "bad.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["row", "id", "reason", "detail"]
    assert rows[1] == ["1", 'a,"1"', "absurd cell", "flat"]
    assert len(rows) == 6
    assert b"\r" not in (tmp_path / "bad.csv").read_bytes()  # as in results.csv
