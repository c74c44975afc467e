from dataclasses import replace
from pathlib import Path

import pytest

from matwheel.report.folders import RunFolder, read_folders, reference_name
from tests.report.written_runs import ROW, full_rows, write_run, write_study


def test_a_run_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", full_rows())
    folders = read_folders([run])
    assert [measurement.row for measurement in folders.measurements] == full_rows()
    assert {measurement.axes for measurement in folders.measurements} == {()}
    assert {measurement.overlap for measurement in folders.measurements} == {2 / 8}
    assert [found.path for found in folders.runs] == [run]
    assert all((folders.runs[0].predictions(row) / "predictions.csv").is_file() for row in folders.runs[0].rows)


def test_columns_of_a_study_are_axes_but_not_sizes(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", {"labelled": ["0.1", "1"]}, [ROW, ROW])
    write_run(study / "labelled=0.1", [ROW])
    (study / "ledger.json").write_text("{}")  # a study is locked while it runs
    folders = read_folders([study])
    assert [measurement.axes for measurement in folders.measurements] == [(("labelled", "0.1"),), (("labelled", "1"),)]
    assert [measurement.overlap for measurement in folders.measurements] == [0.25, 0.25]
    assert [run.name for run in folders.runs] == ["labelled=0.1"]


def test_arms_of_several_predictors_have_folders_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "predictor-F_x_k-round-2-by-trees_on_all"
    folder.mkdir(parents=True)
    row = replace(ROW, arm="F x k", predictor="trees on all", round=2)
    assert reference_name(row) is None
    assert RunFolder(tmp_path, (row,)).predictions(row) == folder
    own = replace(row, predictor="CGCNN")
    assert RunFolder(tmp_path, (row,)).predictions(own) == tmp_path / "stages" / "predictor-F_x_k-round-2"


def test_what_takes_from_a_generator_is_a_reference(tmp_path: Path) -> None:
    row = replace(ROW, predictor="trees + latents", round=2)
    assert reference_name(row) == "trees + latents"
    assert RunFolder(tmp_path, (row,)).predictions(row) == tmp_path / "stages" / "reuse-latents-round-2"


def test_rows_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", full_rows())
    with pytest.raises(ValueError, match="two rows of results cannot be told apart: run run, mp_poly_total"):
        read_folders([run, run])


def test_runs_on_several_splits_have_no_axis(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run-{number}", full_rows(f"RandomSplit-{number}")) for number in range(2)]
    assert {measurement.axes for measurement in read_folders(runs).measurements} == {()}


def test_runs_that_differ_in_their_folder_only_are_kept_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, full_rows()) for name in ("guided", "plain")]
    axes = {measurement.axes for measurement in read_folders(runs).measurements}
    assert axes == {(("run", "guided"),), (("run", "plain"),)}


def test_the_latest_version_is_the_highest_number(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", full_rows())
    for number in ("2", "10", "older"):
        (run / f"version_{number}").mkdir()
    assert [path.name for path in read_folders([run]).runs[0].versions] == ["version_0", "version_2", "version_10"]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no results\.csv: name the folder of a flywheel or of a study"):
        read_folders([tmp_path])


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results yet"):
        read_folders([_empty(tmp_path)])


def _empty(folder: Path) -> Path:
    run = write_run(folder / "run", full_rows())
    table = run / "results.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    return run
