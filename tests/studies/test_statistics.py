import math

import numpy as np
import pandas as pd
import pytest

from matwheel.metrics.paired import paired
from matwheel.studies.statistics import statistics
from matwheel.studies.summary import format_statistics

F = [10.0, 12.0, 11.0, 9.0]
CONTROL = [9.5, 12.0, 10.0, 9.0]
BOTH = [9.0, 11.0, 10.5, 9.5]


def _rows(
    fraction: str, arm: str, errors: list[float], round: int = 0, seed: int = 0, predictor: str = "CGCNN"
) -> list[dict[str, object]]:
    same = {"labelled_fraction": fraction, "dataset": "d", "target": "t", "scenario": "full", "arm": arm}
    return [
        {
            **same,
            "predictor": predictor,
            "round": round,
            "split": f"{split}",
            "seed": seed,
            "test_mae": error,
            "train_rows": 80,
            "test_rows": 20,
        }
        for split, error in enumerate(errors)
    ]


@pytest.fixture
def results() -> pd.DataFrame:
    rows = [
        *_rows("0.1", "trees", [8.0, 8.0, 8.0, 8.0]),
        *_rows("0.1", "F", F),
        *_rows("0.1", "F x k", CONTROL, round=1),
        *_rows("0.1", "F+G_F", BOTH, round=1),
        *_rows("0.1", "F+G_F", [2.0, 2.0], round=2),
        *_rows("1.0", "F", [1.0]),
        *_rows("1.0", "F+G_F", [3.0], round=1),
    ]
    return pd.DataFrame(rows)


def test_a_learning_curve_has_statistics_at_each_point(results: pd.DataFrame) -> None:
    table = statistics(results, ("labelled_fraction", "split", "seed"))
    assert list(table.columns[:5]) == ["dataset", "target", "scenario", "labelled_fraction", "arm"]
    assert list(zip(table["labelled_fraction"], table["arm"], table["round"], table["splits"], strict=True)) == [
        ("0.1", "trees", 0, 4),
        ("0.1", "F", 0, 4),
        ("0.1", "F x k", 1, 4),
        ("0.1", "F+G_F", 1, 4),
        ("0.1", "F+G_F", 2, 2),
        ("1.0", "F", 0, 1),
        ("1.0", "F+G_F", 1, 1),
    ]
    both = table.iloc[3]
    assert (both["test_mae"], both["test_mae_std"]) == (np.mean(BOTH), np.std(BOTH, ddof=1))
    for name, reference in (("vs_real", F), ("vs_control", CONTROL)):
        found = paired(BOTH, reference, overlap=0.25)
        expected = (found.mean, found.low, found.high, found.p, found.wins, found.n)
        assert tuple(both[[name, *(f"{name}_{part}" for part in ("low", "high", "p", "wins", "n"))]]) == expected
    real, second, alone = table.iloc[1], table.iloc[4], table.iloc[6]
    assert math.isnan(real["vs_real"])
    assert second["vs_real"] == np.mean([2 - 10, 2 - 12])  # only the splits that both have
    assert math.isnan(second["vs_control"])  # there is none of its round
    assert alone["vs_real"] == 2
    assert math.isnan(alone["vs_real_p"])


def test_arms_are_compared_within_their_predictor(results: pd.DataFrame) -> None:
    first = results[results["labelled_fraction"] == "0.1"]
    process = [
        *_rows("0.1", "F", [7.0, 8.0, 6.0, 7.0], predictor="GP"),
        *_rows("0.1", "F x k", [6.0] * 4, round=1, predictor="GP"),
        *_rows("0.1", "F+G_F", [5.0] * 4, round=1, predictor="GP"),
        *_rows("0.1", "F+G_F", [4.0] * 4, round=1, predictor="alone"),
    ]
    reused = _rows("0.1", "F", [9.0, 9.0, 9.0, 9.0], round=1, predictor="encoder")
    axes = ("labelled_fraction",)
    table = statistics(pd.concat([first, pd.DataFrame([*process, *reused])]), axes)
    own = table[table["predictor"].isin(["CGCNN", "trees"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, statistics(first, axes))
    found = {(row.predictor, row.arm, row.round): row for row in table.itertuples()}
    assert found["GP", "F+G_F", 1].vs_real == np.mean([-2.0, -3.0, -1.0, -2.0])
    assert found["GP", "F+G_F", 1].vs_control == -1
    assert math.isnan(found["GP", "F", 0].vs_real)
    assert math.isnan(found["alone", "F+G_F", 1].vs_real)  # it was not fitted to real crystals alone
    # What takes from a generator, and the baselines, are held against the trainer's own model.
    assert found["encoder", "F", 1].vs_real == np.mean([9 - error for error in F])
    assert found["encoder", "F", 1].vs_control == np.mean([9 - error for error in CONTROL])
    assert found["CGCNN", "trees", 0].vs_real == np.mean([8 - error for error in F])


def test_seeds_are_averaged_before_splits_are_compared(results: pd.DataFrame) -> None:
    first = results[results["labelled_fraction"] == "0.1"]
    second = first.assign(seed=1, test_mae=first["test_mae"] + 1)
    averaged = first.assign(test_mae=first["test_mae"] + 0.5)
    axes = ("labelled_fraction", "seed")
    both = statistics(pd.concat([first, second]), axes)
    pd.testing.assert_frame_equal(both, statistics(averaged, axes))


def test_the_printed_table(results: pd.DataFrame) -> None:
    blocks = format_statistics(statistics(results, ("labelled_fraction",))).split("\n\n")
    assert blocks[0].startswith("d, t, full, labelled_fraction 0.1\n")
    lines = [line.split() for line in blocks[0].splitlines()]
    assert lines[1] == [
        "arm",
        "predictor",
        "round",
        "splits",
        "test",
        "MAE",
        "less",
        "F",
        "p",
        "wins",
        "less",
        "F",
        "x",
        "k",
        "p",
        "wins",
    ]
    assert lines[4][:7] == ["F", "CGCNN", "0", "4", "10.5", "+-", "1.3"]
    assert lines[6][:8] == ["F+G_F", "CGCNN", "1", "4", "10", "+-", "0.91", "-0.5"]
    assert lines[6][-1] == "2/4"
    assert blocks[1].splitlines()[-1].split() == ["F+G_F", "CGCNN", "1", "1", "3", "+2", "0/1"]
    assert "nan" not in "".join(blocks)


def test_differences_are_between_runs_of_the_same_seed() -> None:
    """A later round that a rule of stopping gave to one seed alone is compared with that seed, not with all."""
    rows = [row for seed, error in ((0, 10.0), (1, 8.0)) for row in _rows("1", "F", [error, error], seed=seed)]
    rows += [row for seed, error in ((0, 10.0), (1, 8.0)) for row in _rows("1", "F+G_F", [error, error], 1, seed)]
    rows += _rows("1", "F+G_F", [8.0, 8.0], 2, seed=1)
    table = statistics(pd.DataFrame(rows), ("labelled_fraction", "split", "seed"))
    assert table["vs_real"].tolist()[1:] == [0.0, 0.0]
    assert table["test_mae"].tolist() == [9.0, 9.0, 8.0]
