from pathlib import Path

import pandas as pd
import pytest

from matwheel import study
from matwheel.flywheel.ledger import Ledger
from tests.studies.results import PretendEngine

STUDY = """
name: small
config: full.yaml
grid:
  dataset:
    a: {data.dataset: a.csv}
    b: {data.dataset: b.csv}
  split: {data.split.seed: [0, 1, 2]}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full.yaml").write_text("trainer: {}\n")
    Path("study.yaml").write_text(STUDY)


def _pretend(monkeypatch: pytest.MonkeyPatch, engine: PretendEngine) -> PretendEngine:
    monkeypatch.setattr(study, "LocalEngine", lambda jobs, threads: engine)
    return engine


def test_a_dry_run_shows_what_would_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    study.main(["study.yaml", "--dry-run"])
    printed = capsys.readouterr().out
    assert "to run: dataset=a,split=0\n" in printed
    assert "-m matwheel.fit fit" in printed
    assert "--name small/dataset=a,split=0\n" in printed
    assert "6 of 6 cells to run in runs/small" in printed
    assert not Path("runs").exists()


def test_results_and_statistics(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _pretend(monkeypatch, PretendEngine())
    study.main(["study.yaml"])
    assert len(pd.read_csv("runs/small/results.csv")) == 12
    table = pd.read_csv("runs/small/statistics.csv")
    assert table[["dataset", "arm", "splits", "test_mae"]].values.tolist() == [
        ["a", "F", 3, 2.0],
        ["a", "F+G_F", 3, 2.0],
        ["b", "F", 3, 5.0],
        ["b", "F+G_F", 3, 5.0],
    ]
    printed = capsys.readouterr().out
    assert "a, gap, full\n" in printed
    assert "runs/small/statistics.csv" in printed
    study.main(["study.yaml", "--dry-run"])
    assert "0 of 6 cells to run" in capsys.readouterr().out


def test_failed_cells_end_with_status_1(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    _pretend(monkeypatch, PretendEngine(failing="dataset=b"))
    log = Path("elsewhere/dataset=b,split=1/log.txt")
    log.parent.mkdir(parents=True)
    end = "more\n" * 4 + "no such table: b.csv\n"
    log.write_text(f"first\n{end}")
    with pytest.raises(SystemExit) as stop:
        study.main(["study.yaml", "--folder", "elsewhere"])
    assert stop.value.code == 1
    assert f"dataset=b,split=1: exit status 1\n{end}({log.absolute()})" in caplog.text
    assert "3 of 6 cells failed; the same command runs them again" in caplog.text
    assert set(pd.read_csv("elsewhere/statistics.csv")["dataset"]) == {"a"}


def test_results_of_an_earlier_version_of_the_study_are_not_taken_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, PretendEngine())
    study.main(["study.yaml"])
    Path("study.yaml").write_text(STUDY.replace("split:", "fold:"))
    _pretend(monkeypatch, PretendEngine(failing="dataset"))
    with pytest.raises(SystemExit):
        study.main(["study.yaml"])
    assert not Path("runs/small/results.csv").exists()


def test_without_a_finished_cell_there_are_no_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, PretendEngine(failing="dataset"))
    with pytest.raises(SystemExit):
        study.main(["study.yaml"])
    assert not Path("runs/small/statistics.csv").exists()


def test_a_second_study_in_the_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(Path("runs/small")), pytest.raises(SystemExit) as stop:
        study.main(["study.yaml"])
    assert stop.value.code == 1
    assert "runs/small is in use by process" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "message"), [("--jobs", "jobs (0)"), ("--threads", "threads (0)")])
def test_numbers_below_one(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.main(["study.yaml", option, "0"])
    assert message in capsys.readouterr().err
