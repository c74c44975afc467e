import json
import re
from pathlib import Path

import matwheel.report
from matwheel.report.folders import RunFolder
from matwheel.report.generator_tables import generator_tables
from tests.report.written_runs import full_rows, write_run


def test_samples_filters_and_evaluations(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path / "run", full_rows()), tuple(full_rows()))
    folder = run.stage("samples") / "samples-evaluation"
    folder.mkdir()
    figures = [
        {"name": "structure validity", "value": 0.8, "total": 5, "of": "samples", "count": 4, "unit": ""},
        {"name": "density", "value": None, "total": 5, "of": "samples", "count": None, "unit": "g/cm^3"},
    ]
    content = {"figures": figures, "generated": {"source": "samples.extxyz"}, "reference": {"source": "mp_poly_total"}}
    (folder / "metrics.json").write_text(json.dumps(content))
    samples, filters, evaluation = generator_tables(run, 1)
    assert samples.lines == [("samples", "5", ""), ("valid", "4", "80.0 %")]
    assert filters.lines == [("structure", "6", "5", "83.3 %"), ("novel", "5", "5", "\N{EN DASH}")]
    assert evaluation.caption == "Evaluation of samples.extxyz against mp_poly_total."
    assert [line[:2] for line in evaluation.lines] == [("structure validity", "80.00 %"), ("density", "nan g/cm^3")]


def test_the_report_imports_no_command() -> None:
    """Commands import the report."""
    command = re.compile(r"from matwheel(\.| import )(cli|evaluate|export|fit|predict|sample|study)\b")
    files = Path(matwheel.report.__file__).parent.rglob("*.py")
    assert [path.name for path in files if command.search(path.read_text())] == []


def test_a_round_without_files_has_no_tables(tmp_path: Path) -> None:
    run = RunFolder(write_run(tmp_path / "run", full_rows()), tuple(full_rows()))
    assert generator_tables(run, 2) == []
