from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.flywheel.rounds import RoundRow, best_round, is_exhausted, read_rounds, write_rounds
from matwheel.report.table import format_rounds

ROW = RoundRow(
    "mp_poly_total", "poly_total", "semi", "S+G_S", "FileSplit-0", 0, 1, 700, 4.25, 5.5, 0.1, 4, 10, 30, 1.1, 0.3
)


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, round=2, val_mae=1 / 3, dataset="1234")]
    write_rounds(tmp_path / "rounds.csv", rows)
    assert read_rounds(tmp_path / "rounds.csv") == rows


def test_the_terminal_table() -> None:
    lines = format_rounds([replace(ROW, round=0, n_synthetic=0), ROW], "eV").splitlines()
    assert lines[0] == "mp_poly_total, poly_total (eV), split FileSplit-0, seed 0, by round"
    assert lines[-1].split() == ["1", "S+G_S", "700", "4.25", "5.5", "0.100", "4", "10", "30", "1.100", "0.300"]


@pytest.mark.parametrize(
    ("errors", "patience", "stops"),
    [
        ([5.0], 1, False),
        ([5.0, 4.0], 1, False),
        ([5.0, 5.0], 1, True),
        ([5.0, 6.0], 2, False),
        ([5.0, 6.0, 5.5], 2, True),
        ([5.0, 6.0, 4.0, 4.5], 2, False),
        ([5.0, 6.0, 7.0, 8.0], None, False),
        ([5.0, float("nan")], 1, True),
        ([float("nan"), 5.0], 1, False),
    ],
)
def test_stop_rule(errors: list[float], patience: int | None, stops: bool) -> None:
    assert is_exhausted(errors, patience) is stops


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(1, 4))
def test_the_wheel_stops_patience_rounds_after_its_best(errors: list[float], patience: int) -> None:
    rounds = next((n for n in range(1, len(errors) + 1) if is_exhausted(errors[:n], patience)), None)
    if rounds is not None:
        assert rounds == best_round(errors[:rounds]) + 1 + patience
        assert min(errors[:rounds]) == errors[best_round(errors[:rounds])]
