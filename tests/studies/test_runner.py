import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from matwheel.flywheel.ledger import Ledger, RunLockedError
from matwheel.flywheel.results import COLUMNS, read_results
from matwheel.studies import cell_run
from matwheel.studies.command import Command, Finished
from matwheel.studies.runner import cell_runs, run_study
from matwheel.studies.study_file import Study, read_study
from tests.studies.results import PretendEngine

STUDY = """
name: small
config: full.yaml
grid:
  split: {data.split.seed: [0, 1]}
  ratio: {trainer.callbacks.synthetic_ratio: [1, 2]}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "full.yaml").write_text("trainer: {}\n")
    (tmp_path / "study.yaml").write_text(STUDY)
    return read_study(tmp_path / "study.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "small"


def test_each_cell_is_run_once(study: Study, folder: Path) -> None:
    engine = PretendEngine()
    assert run_study(study, folder, engine) == []
    assert engine.ran == [cell.name for cell in study.cells]
    table = pd.read_csv(folder / "results.csv", dtype=str)
    assert list(table.columns) == [
        *("split", "ratio"),
        *(name for name in COLUMNS if name != "split"),
        *("train_rows", "test_rows"),
    ]
    assert list(zip(table["split"], table["ratio"], table["arm"], strict=True))[:3] == [
        ("0", "1", "F"),
        ("0", "1", "F+G_F"),
        ("0", "2", "F"),
    ]
    assert set(table["train_rows"]) == {"80"}
    assert len(read_results(folder / "results.csv")) == 8
    before = (folder / "results.csv").read_text()
    again = PretendEngine()
    assert run_study(study, folder, again) == []
    assert again.ran == []
    assert (folder / "results.csv").read_text() == before


def test_a_failed_cell_leaves_the_others_alone_and_is_run_again(study: Study, folder: Path) -> None:
    failed = run_study(study, folder, PretendEngine(failing="split=0,ratio=2"))
    assert [(finished.command.name, finished.problem) for finished in failed] == [("split=0,ratio=2", "exit status 1")]
    assert len(pd.read_csv(folder / "results.csv")) == 6
    again = PretendEngine()
    assert run_study(study, folder, again) == []
    assert again.ran == ["split=0,ratio=2"]
    table = pd.read_csv(folder / "results.csv")
    assert table[["split", "ratio"]].drop_duplicates().values.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_a_run_without_the_wheel_is_a_failure(study: Study, folder: Path) -> None:
    (failed,) = run_study(study, folder, PretendEngine(idle="split=0,ratio=2"))
    assert "must contain a Flywheel" in failed.problem
    assert len(pd.read_csv(folder / "results.csv")) == 6
    assert not cell_runs(study, folder)[1].is_finished()


def test_the_table_is_known_while_the_study_runs(study: Study, folder: Path) -> None:
    class Interrupted(PretendEngine):
        def run(self, commands):
            for number, finished in enumerate(super().run(commands)):
                if number == 2:
                    raise KeyboardInterrupt
                yield finished

    with pytest.raises(KeyboardInterrupt):
        run_study(study, folder, Interrupted())
    assert len(pd.read_csv(folder / "results.csv")) == 4
    again = PretendEngine()
    run_study(study, folder, again)
    assert again.ran == ["split=1,ratio=1", "split=1,ratio=2"]


def test_changed_settings_are_run_again(study: Study, folder: Path, tmp_path: Path) -> None:
    run_study(study, folder, PretendEngine())
    (tmp_path / "study.yaml").write_text(STUDY.replace("[1, 2]", "[1, 3]"))
    engine = PretendEngine()
    run_study(read_study(tmp_path / "study.yaml"), folder, engine)
    assert engine.ran == ["split=0,ratio=3", "split=1,ratio=3"]
    assert set(pd.read_csv(folder / "results.csv")["ratio"]) == {1, 3}
    (tmp_path / "full.yaml").write_text("trainer: {max_epochs: 3}\n")
    engine = PretendEngine()
    run_study(study, folder, engine)
    assert len(engine.ran) == 4


def test_results_of_changed_settings_do_not_stand_in_the_way(study: Study, folder: Path) -> None:
    """The wheel refuses a folder with results of another split."""
    engine = PretendEngine()
    run_study(study, folder, engine)
    (folder / study.cells[0].name / "cell.json").unlink()

    class Checking(PretendEngine):
        def run(self, commands: Sequence[Command]) -> Generator[Finished]:
            assert [command.log.parent.joinpath("results.csv").exists() for command in commands] == [False]
            yield from super().run(commands)

    assert run_study(study, folder, Checking()) == []


def test_changed_files_that_options_name_are_noticed(folder: Path, tmp_path: Path) -> None:
    split, judge = tmp_path / "split.json", tmp_path / "judge.yaml"
    split.write_text("{}")
    (tmp_path / "full.yaml").write_text("trainer: {}\n")
    nested = f"{{labeller: {{predictor: {judge}}}}}"
    (tmp_path / "study.yaml").write_text(
        f"name: small\nconfig: full.yaml\ngrid:\n  kind:\n    one: {{path: {split}}}\n    two: {{option: {nested}}}\n"
    )
    study, long = read_study(tmp_path / "study.yaml"), "x" * 5000
    assert run_study(study, folder, PretendEngine()) == []
    for path, again in ((split, ["kind=one"]), (judge, ["kind=two"])):
        path.write_text(f"{{other: {long}}}")
        engine = PretendEngine()
        run_study(study, folder, engine)
        assert engine.ran == again


def test_changed_files_that_configs_name_are_noticed(study: Study, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("id\n")
    (tmp_path / "full.yaml").write_text(f"data: {{init_args: {{dataset: {table}}}}}\n")
    assert run_study(study, folder, PretendEngine()) == []
    table.write_text("id\na\n")
    engine = PretendEngine()
    run_study(study, folder, engine)
    assert len(engine.ran) == 4


def test_a_config_that_is_no_yaml_is_named(study: Study, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text("trainer: [\n")
    with pytest.raises(ValueError, match=r"full\.yaml is not a config that can be read"):
        run_study(study, folder, PretendEngine())


def test_a_config_that_is_edited_while_a_study_runs_is_not_what_was_run(
    study: Study, folder: Path, tmp_path: Path
) -> None:
    class Editing(PretendEngine):
        def run(self, commands: Sequence[Command]) -> Generator[Finished]:
            for finished in super().run(commands):
                (tmp_path / "full.yaml").write_text("trainer: {max_epochs: 3}\n")
                yield finished

    run_study(study, folder, Editing())
    engine = PretendEngine()
    run_study(study, folder, engine)
    assert len(engine.ran) == 4


def test_a_version_with_other_results_runs_cells_again(
    study: Study, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(study, folder, PretendEngine())
    monkeypatch.setattr(cell_run, "RESULTS_REVISION", cell_run.RESULTS_REVISION + 1)
    engine = PretendEngine()
    run_study(study, folder, engine)
    assert len(engine.ran) == 4


def test_cells_that_share_stages_wait_for_the_first(study: Study, folder: Path) -> None:
    class WithStages(PretendEngine):
        def run(self, commands):
            for command in commands:
                if command.name.endswith("ratio=2"):
                    made_by = (command.log.parent / "stages" / "generator").read_text()
                    assert made_by == command.name.replace("ratio=2", "ratio=1")
                else:
                    (command.log.parent / "stages").mkdir(parents=True)
                    (command.log.parent / "stages" / "generator").write_text(command.name)
                yield from super().run([command])

    engine = WithStages()
    assert run_study(replace(study, share=("ratio",)), folder, engine) == []
    assert engine.ran == [f"split={split},ratio={ratio}" for ratio in (1, 2) for split in (0, 1)]
    table = pd.read_csv(folder / "results.csv")
    assert table[["split", "ratio"]].drop_duplicates().values.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_the_command_of_a_cell(study: Study, folder: Path) -> None:
    run = cell_runs(study, folder)[1]
    arguments = run.command().arguments
    assert arguments[1:4] == ("-m", "matwheel.fit", "fit")
    assert arguments[-8:] == (
        *("-c", str(folder.parents[1] / "full.yaml"), "--data.split.seed", "0"),
        *("--trainer.callbacks.synthetic_ratio", "2", "--name", str(folder / "split=0,ratio=2")),
    )
    assert replace(run, folder=folder).command().log == folder / "log.txt"


def test_a_run_whose_split_is_not_known(study: Study, folder: Path) -> None:
    run_study(study, folder, PretendEngine())
    run = cell_runs(study, folder)[0]
    (run.folder / "version_0" / "split.json").unlink()
    with pytest.raises(ValueError, match=r"no version_K/split\.json"):
        run.rows()


def test_the_split_is_that_of_the_latest_log_folder(study: Study, folder: Path) -> None:
    run_study(study, folder, PretendEngine())
    run = cell_runs(study, folder)[0]
    for name, train in (("version_old", 1), ("version_2", 2), ("version_10", 3)):
        (run.folder / name).mkdir()
        (run.folder / name / "split.json").write_text(json.dumps({"train": [0] * train, "test": []}))
    assert {row["train_rows"] for row in run.rows()} == {3}


def test_two_studies_in_one_folder(study: Study, folder: Path) -> None:
    engine = PretendEngine()
    with Ledger(folder), pytest.raises(RunLockedError, match="is in use by process"):
        run_study(study, folder, engine)
    assert engine.ran == []
