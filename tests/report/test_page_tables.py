from dataclasses import replace

from matwheel.report.comparison import compare
from matwheel.report.folders import Measurement
from matwheel.report.numbers import NONE
from matwheel.report.page_tables import arms_table, differences_table, rows_table
from tests.report.written_runs import ROW, full_rows


def test_arms_have_mean_and_spread() -> None:
    rows = [row for split, shift in (("a", 0.0), ("b", 2.0)) for row in full_rows(split, shift)]
    (comparison,) = compare([Measurement(row) for row in rows])
    table = arms_table(comparison)
    lines = {line[0]: line for line in table.lines}
    assert lines["F"] == ("F", "CGCNN", "2", "8", "0", "7 ± 1.4", "9 ± 0", "0.1 ± 0", "6 ± 0")
    assert all(len(line) == len(table.header) for line in table.lines)


def test_seeds_of_a_split_are_averaged_first() -> None:
    errors = (("a", 0, 4.0), ("a", 1, 6.0), ("b", 0, 7.0))
    rows = [replace(ROW, split=split, seed=seed, test_mae=error) for split, seed, error in errors]
    (comparison,) = compare([Measurement(row) for row in rows])
    table = arms_table(comparison)
    assert table.lines[0][2:6] == ("3", "8", "0", "6 ± 1.4")
    assert table.caption == "Mean ± standard deviation over splits; seeds of a split are averaged first."


def test_sizes_that_differ_are_a_range() -> None:
    rows = [ROW, replace(ROW, split="other", n_real=10)]
    (comparison,) = compare([Measurement(row) for row in rows])
    assert arms_table(comparison).lines[0][3] == "8 to 10"


def test_differences_split_by_split() -> None:
    rows = [row for split in "abc" for row in full_rows(split) if (row.arm, split) != ("trees", "b")]
    (comparison,) = compare([Measurement(row) for row in rows])
    table = differences_table(comparison)
    lines = {line[0]: line for line in table.lines}
    assert table.header == ("comparison", "mean", "95 % interval", "p", "better on", "a", "b", "c")
    assert lines["F+G_F against F"][4:] == ("0 of 3", "+0.2", "+0.2", "+0.2")
    assert lines["trees against F"][5:] == ("\N{MINUS SIGN}1", NONE, "\N{MINUS SIGN}1")
    assert lines["trees against F"][2] == NONE  # two splits give no interval
    assert "of about 75 % with 3 splits, and less" in table.caption


def test_one_split_has_no_statistics() -> None:
    (comparison,) = compare([Measurement(row) for row in full_rows()])
    assert differences_table(comparison).header == ("comparison", "RandomSplit-0")


def test_all_rows_with_all_axes() -> None:
    table = rows_table([Measurement(ROW, (("ratio", "2"),)), Measurement(ROW)])
    assert [line[0] for line in table.lines] == ["2", NONE]
    assert all(len(line) == len(table.header) for line in table.lines)
