from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.flywheel.results import ResultRow
from matwheel.report.comparison import Comparison, chosen_round, compare
from matwheel.report.folders import Measurement
from tests.report.written_runs import ROW, full_rows

errors = st.floats(0.1, 100, allow_nan=False)


def comparison(rows: list[ResultRow]) -> Comparison:
    (found,) = compare([Measurement(row) for row in rows])
    return found


@given(st.lists(st.tuples(errors, errors), min_size=1, max_size=6))
def test_differences_are_paired_by_split(pairs: list[tuple[float, float]]) -> None:
    rows = []
    for number, (real, mixed) in enumerate(pairs):
        rows.append(replace(ROW, arm="F+G_F", round=1, split=f"split-{number}", test_mae=mixed))
        rows.insert(0, replace(ROW, split=f"split-{number}", test_mae=real))
    difference = comparison(rows).difference("F+G_F", "F")
    assert difference is not None
    by_split = dict(zip(difference.splits, difference.paired.differences, strict=True))
    assert by_split == {f"split-{number}": mixed - real for number, (real, mixed) in enumerate(pairs)}
    assert (difference.interval is None) == (len(pairs) < 3)


def test_seeds_of_a_split_count_as_one() -> None:
    rows = [replace(ROW, seed=seed, test_mae=error) for seed, error in ((0, 4.0), (1, 6.0))]
    mixed = [replace(row, arm="F+G_F", round=1, test_mae=row.test_mae + 1) for row in rows]
    difference = comparison([*rows, *mixed]).difference("F+G_F", "F")
    assert difference is not None
    assert difference.paired.differences == (1.0,)


def test_differences_are_between_runs_of_the_same_seed() -> None:
    """As in the statistics of a study: a run that failed for one arm is not held against the mean of two of another."""
    rows = [replace(ROW, seed=seed, test_mae=error) for seed, error in ((0, 4.0), (1, 6.0))]
    found = comparison([*rows, replace(rows[1], arm="F+G_F", round=1, test_mae=5.5)])
    difference = found.difference("F+G_F", "F")
    assert difference is not None
    assert difference.paired.differences == (-0.5,)
    assert found.errors("F") == {ROW.split: 5.0}


def test_splits_that_only_one_arm_has_are_left_out() -> None:
    rows = [ROW, replace(ROW, split="other"), replace(ROW, arm="F+G_F", round=1)]
    found = comparison(rows)
    difference = found.difference("F+G_F", "F")
    assert difference is not None
    assert difference.splits == ["RandomSplit-0"]
    assert found.difference("G_F", "F") is None


@given(st.lists(errors, min_size=1, max_size=5), st.lists(errors, min_size=5, max_size=5))
def test_the_round_is_chosen_on_validation(validation: list[float], test: list[float]) -> None:
    rows = [ROW]
    for number, (val_mae, test_mae) in enumerate(zip(validation, test, strict=False), 1):
        rows.append(replace(ROW, arm="G_F", round=number, val_mae=0.0, test_mae=test_mae))
        rows.append(replace(ROW, arm="F+G_F", round=number, val_mae=val_mae, test_mae=test_mae))
    best = 1 + int(np.argmin(validation))
    assert chosen_round(rows) == best
    assert {row.arm: row.round for row in comparison(rows).chosen} == {"F": 0, "G_F": best, "F+G_F": best}


def test_an_arm_of_the_first_round_only_is_kept() -> None:
    rows = [
        replace(ROW, scenario="semi", arm=arm, round=round, val_mae=val_mae)
        for arm, round, val_mae in (("S", 0, 5.0), ("S+G_true", 1, 5.0), ("S+G_S", 1, 5.0), ("S+G_S", 2, 4.0))
    ]
    assert {row.arm: row.round for row in comparison(rows).chosen} == {"S": 0, "S+G_true": 1, "S+G_S": 2}


def test_baselines_belong_to_every_predictor() -> None:
    rows = [*full_rows(), *(replace(row, predictor="PaiNN") for row in full_rows() if row.arm.endswith("F"))]
    found = compare([Measurement(row) for row in rows])
    assert [item.setting.predictor for item in found] == ["CGCNN", "PaiNN"]
    assert all(item.arms[:2] == ["dummy", "trees"] for item in found)


def test_the_round_is_that_of_the_trainers_own_model() -> None:
    own = [replace(ROW, arm="F+G_F", round=round, val_mae=val_mae) for round, val_mae in ((1, 5.0), (2, 6.0))]
    beside = [replace(row, predictor="GP", val_mae=7.0 - row.round) for row in own]
    rows = [own[0], beside[0], own[1], beside[1]]
    assert chosen_round(rows) == 1
    by_predictor = compare([Measurement(row) for row in rows])
    assert [[row.round for row in found.chosen] for found in by_predictor] == [[1], [2]]


def test_what_takes_from_a_generator_is_compared_and_is_not_the_last_arm() -> None:
    reused = [replace(ROW, predictor="encoder", round=round, test_mae=4.0, val_mae=0.1) for round in (1, 2)]
    mixed = [replace(ROW, arm="F+G_F", round=round, val_mae=val_mae) for round, val_mae in ((1, 5.0), (2, 6.0))]
    rows = [ROW, mixed[0], reused[0], mixed[1], reused[1]]
    assert chosen_round(rows) == 1
    found = comparison(rows)
    assert {row.arm: (row.round, row.test_mae) for row in found.chosen} == {
        "encoder": (1, 4.0),
        "F": (0, 6.0),
        "F+G_F": (1, 6.0),
    }
    assert [(d.arm, d.paired.mean) for d in found.differences] == [("encoder", -2.0), ("F+G_F", 0.0)]


def test_axes_are_settings() -> None:
    measurements = [Measurement(row, (("ratio", ratio),)) for ratio in ("1", "2") for row in full_rows()]
    assert [item.setting.title for item in compare(measurements)] == [
        "mp_poly_total, poly_total, full, CGCNN, ratio 1",
        "mp_poly_total, poly_total, full, CGCNN, ratio 2",
    ]


def test_another_scenario_is_refused() -> None:
    with pytest.raises(ValueError, match="have the scenario 'half': full or semi"):
        _ = comparison([replace(ROW, scenario="half")]).roles
