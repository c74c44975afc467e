from pathlib import Path

import pandas as pd
import pytest

from matwheel import study
from matwheel.flywheel.ledger import Ledger
from matwheel.studies.engine import Engine
from matwheel.studies.local import LocalEngine
from matwheel.studies.ray_cluster import RayEngine
from matwheel.studies.slurm import SlurmEngine
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
    monkeypatch.setattr(study, "LocalEngine", lambda *_: engine)
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


def test_an_axis_may_have_the_value_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, PretendEngine())
    text = Path("study.yaml").read_text()
    Path("study.yaml").write_text(f"{text}  decay: {{trainer.callbacks.decay: [null, 0.9]}}\n")
    study.main(["study.yaml"])
    table = pd.read_csv("runs/small/statistics.csv", keep_default_na=False)
    assert table["decay"].value_counts().to_dict() == {"None": 4, "0.9": 4}


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


@pytest.mark.parametrize(
    ("option", "message"), [("--jobs", "jobs (0)"), ("--threads", "threads (0)"), ("--gpus", "gpus (-1)")]
)
def test_numbers_that_are_too_small(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.main(["study.yaml", f"{option}={message[-3:].strip('()')}"])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--jobs=2"], LocalEngine(2, 3, None)),
        (["--gpus=0", "--threads=1"], LocalEngine(1, 1, 0)),
        (["--engine=ray", "--jobs=3", "--gpus=2"], RayEngine(3, 2, 2)),
        (["--engine=ray"], RayEngine(1, 6, 0)),
        (
            ["--engine=slurm", "--gpus=1", "--slurm.partition=gpu"],
            SlurmEngine(1, 6, 1, Path("runs/small/slurm"), partition="gpu"),
        ),
    ],
)
def test_options_are_those_of_the_engine(options: list[str], expected: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[Engine] = []
    monkeypatch.setattr(study, "available_processors", lambda: 6)
    monkeypatch.setattr(study, "run_study", lambda _, __, engine: engines.append(engine) or [])
    study.main(["study.yaml", *options])
    assert engines == [expected]


def test_too_few_gpus_are_said_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matwheel.studies.local.visible_cards", lambda: ["0", "1"])
    with pytest.raises(SystemExit):
        study.main(["study.yaml", "--jobs=2", "--gpus=2"])
    assert "2 jobs with 2 GPUs each need 4, but 2 are visible here: lower --jobs or --gpus" in capsys.readouterr().err
    assert not Path("runs").exists()
