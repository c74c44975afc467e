import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from matwheel.report.__main__ import main
from matwheel.report.report import make_report
from tests.report.hostile import HOSTILE, Page
from tests.report.written_runs import full_rows, write_run, write_study

HOSTILE_FOLDER = HOSTILE.replace("/", "|")


def test_the_page_of_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", full_rows(), command=("fit", "-c", "full.yaml"))
    report = make_report([run])
    page = Page.read(report.html)
    page.check()
    assert page.text.index(report.answer[0]) < page.text.index("Results")
    for heading in (
        "Predictions of test crystals",
        "Rounds and drift",
        "Synthetic crystals",
        "Gallery",
        "How it was made",
    ):
        assert heading in page.text
    assert "python -m matwheel.fit fit -c full.yaml" in page.text
    assert "abc123" in page.text
    assert len(page.all("canvas")) == len(json.loads(page.scripts[0])) == 5
    parity = [picture for picture in report.pictures if picture.name.startswith("parity")]
    assert [picture.name for picture in parity] == [
        f"parity run {arm}" for arm in ("trees", "F", "F x k", "G_F", "F+G_F")
    ]
    labels = next(picture for picture in report.pictures if picture.name.startswith("labels"))
    assert "requested 12.5, synthetic labels 6" in labels.caption


@pytest.mark.parametrize(("first", "scale"), [(8, "log"), (-4, "linear")])
def test_parity_plots_of_a_run_have_one_scale(first: float, scale: str, tmp_path: Path) -> None:
    """A single prediction below zero put one plot beside logarithmic ones, with which it could not be compared."""
    run = write_run(tmp_path / "run", full_rows())
    (run / "stages/predictor-F/predictions.csv").write_text(f"id,prediction,target\na,{first},2\nb,19,25\nc,256,250\n")
    parity = [picture for picture in make_report([run]).pictures if picture.name.startswith("parity")]
    assert len(parity) == 5
    assert {picture.figure.axes[0].get_xscale() for picture in parity} == {scale}
    assert {picture.figure.axes[0].get_yscale() for picture in parity} == {scale}


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    rows = full_rows(split=HOSTILE, target=HOSTILE)
    run = write_run(tmp_path / HOSTILE_FOLDER, rows, ids=(HOSTILE,), command=("fit", HOSTILE))
    report = make_report([run])
    page = Page.read(report.html)
    page.check()
    assert HOSTILE in page.text
    assert HOSTILE_FOLDER in page.text
    assert "<img src=x" not in page.scripts[0] + page.scripts[1]
    for picture in report.pictures:
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture.svg).iter()}
        assert not tags & {"script", "img", "foreignObject", "a"}


def test_a_study_with_hostile_axes(tmp_path: Path) -> None:
    rows = [row for split in range(3) for row in full_rows(f"split-{split}", shift=split)]
    axes = {HOSTILE: [HOSTILE] * len(rows), "ratio": [str(1 + (n >= 9)) for n in range(len(rows))]}
    study = write_study(tmp_path / "study", {**axes}, rows)
    write_run(study / "cell", full_rows())
    page = Page.read(make_report([study]).html)
    page.check()
    assert f"{HOSTILE} {HOSTILE}" in page.text


def test_learning_curves_of_numeric_axes(tmp_path: Path) -> None:
    rows = [*full_rows(), *full_rows()]
    half = len(rows) // 2
    columns = {"fraction": ["0.1"] * half + ["1"] * half, "filter": ["none"] * len(rows)}
    report = make_report([write_study(tmp_path / "study", columns, rows)])
    curves = [picture for picture in report.pictures if picture.name.startswith("curve")]
    assert report.pictures[0].name == "differences mp_poly_total, poly_total"
    assert "CGCNN, fraction 0.1, filter none, F+G_F against F x k: +0.4" in report.pictures[0].alt
    (curve,) = curves
    assert curve.name == "curve fraction mp_poly_total, poly_total, full, CGCNN, filter none"
    assert "real + synthetic: 0.1: 6.2, 1: 6.2" in curve.alt


@pytest.mark.parametrize(
    ("axis", "semi", "full", "names"),
    [
        ("fraction", ["0.1", "0.5"], ["1"], ["poly_total, CGCNN"]),  # full is where this axis ends
        ("ratio", ["0.5", "1"], ["1", "2"], ["poly_total, full, CGCNN", "poly_total, semi, CGCNN"]),
    ],
)
def test_scenarios_share_a_curve_only_where_the_axis_leads_from_one_to_the_other(
    axis: str, semi: list[str], full: list[str], names: list[str], tmp_path: Path
) -> None:
    rows = full_rows()
    semi_rows = [replace(row, scenario="semi", arm=row.arm.replace("F", "S")) for row in rows]
    values = [value for value in (*semi, *full) for _ in rows]
    report = make_report([write_study(tmp_path / "study", {axis: values}, semi_rows * len(semi) + rows * len(full))])
    curves = [picture for picture in report.pictures if picture.name.startswith("curve")]
    assert sorted(curve.name for curve in curves) == [f"curve {axis} mp_poly_total, {name}" for name in names]


def test_runs_beyond_the_first_are_named_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matwheel.report.report._SHOWN_RUNS", 1)
    study = write_study(tmp_path / "study", {}, full_rows())
    for number in range(3):
        write_run(study / f"split={number}", full_rows(f"RandomSplit-{number}"))
    page = Page.read(make_report([study]).html)
    assert "2 further runs are in the tables above but not shown one by one" in page.text


def test_a_run_without_records_still_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", full_rows())
    for name in ("split.json", "run.json", "config.yaml"):
        (run / "version_0" / name).unlink()
    (run / "rounds.csv").unlink()
    page = Page.read(make_report([run]).html)
    page.check()
    assert "The real training crystals are not shown for comparison" in page.text
    assert "does not say by which command it was made" in page.text


def test_predictions_of_other_crystals_are_not_drawn(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", full_rows())
    (run / "stages/predictor-F/predictions.csv").write_text("id,prediction,target\nnew,1.0,2.5\n")
    report = make_report([run])
    assert "parity run F" not in [picture.name for picture in report.pictures]
    assert "parity run G_F" in [picture.name for picture in report.pictures]
    page = Page.read(report.html)
    assert "F has no parity plot: the MAE of the 1 predictions in" in page.text
    assert "is 1.5, that in the results 6, so that they are not those of the test crystals" in page.text


@pytest.mark.parametrize("command", [["run"], ["structures", "made.csv"]])
def test_only_a_page_is_replaced(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", full_rows())
    (tmp_path / "made.csv").write_text("id,cif\n")
    for out in ("made.csv", "run/results.csv"):
        before = Path(out).read_text()
        with pytest.raises(SystemExit):
            main([*command, "--out", out])
        assert f"cannot write {out}: name a .html file as --out" in capsys.readouterr().err
        assert Path(out).read_text() == before


def test_pictures_in_the_page_are_those_in_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", full_rows())
    out, figures = tmp_path / "report.html", tmp_path / "figures"
    main([str(run), "--out", str(out), "--figures", str(figures)])
    printed = capsys.readouterr().out
    assert printed.startswith("On mp_poly_total")
    assert f"Report: {out}" in printed
    embedded = [
        base64.b64decode(data) for data in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', out.read_text())
    ]
    assert {path.read_bytes() for path in figures.glob("*.svg")} == set(embedded)
    assert len(list(figures.glob("*.png"))) == len(embedded)


def test_a_folder_without_results_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "model").mkdir(parents=True)
    (tmp_path / "made.xyz").touch()
    run = write_run(tmp_path / "runs" / "wheel", full_rows())
    for given, hint in [
        ("runs/model", "a flywheel or of a study, such as runs/NAME"),
        ("runs", f"did you mean {run}?"),
        ("runs/wheel/results.csv", f"did you mean {run}?"),
        ("made.xyz", f"python -m matwheel.report structures {tmp_path}/made.xyz"),
    ]:
        with pytest.raises(SystemExit) as error:
            main([str(tmp_path / given)])
        assert error.value.code == 1
        printed = capsys.readouterr().err
        assert f"{tmp_path / given} has no results.csv" in printed
        assert hint in printed
