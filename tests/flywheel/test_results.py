from dataclasses import replace
from pathlib import Path

import pytest

from matwheel.flywheel.results import COLUMNS, ResultRow, read_results, write_results
from matwheel.report.table import format_results

ROW = ResultRow(
    "mp_poly_total", "poly_total", "full", "F x k", "CGCNN", "FileSplit-0", 0, 0, 1478, 0, 5.9, 21.0, 0.3, 4.9, 61.25
)


def test_columns_are_those_that_reports_are_made_of(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [ROW])
    header = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert header == (
        "dataset,target,scenario,arm,predictor,split,seed,round,n_real,n_synthetic,"
        "test_mae,test_rmse,test_r2,val_mae,seconds"
    )
    assert tuple(header.split(",")) == COLUMNS


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, arm="F+G_F", n_synthetic=700, test_mae=1 / 3, dataset="1234")]
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows


def test_other_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("dataset,target\nx,y\n")
    with pytest.raises(ValueError, match="no column scenario"):
        read_results(tmp_path / "other.csv")


def test_the_terminal_table_shows_every_arm() -> None:
    text = format_results([ROW, replace(ROW, arm="F+G_F", n_synthetic=700, test_mae=5.123456)], "eV")
    lines = text.splitlines()
    assert lines[0] == "mp_poly_total, poly_total (eV), split FileSplit-0, seed 0"
    assert lines[1].split()[:4] == ["arm", "predictor", "n_real", "n_synthetic"]
    assert "F x k" in lines[3]
    assert "5.123" in lines[4]
    assert "700" in lines[4]
    assert {line.index("CGCNN") for line in lines[3:]} == {lines[1].index("predictor")}
