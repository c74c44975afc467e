import shutil
from pathlib import Path

import pytest

from matwheel.report.folders import RunFolder
from matwheel.report.provenance import command_line, read_provenance
from tests.report.written_runs import full_rows, write_run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["/opt/site-packages/matwheel/fit.py", "fit", "--name", "my run"],
            "python -m matwheel.fit fit --name 'my run'",
        ),
        (["scripts/own.py", "-c", "x.yaml"], "python scripts/own.py -c x.yaml"),
    ],
)
def test_commands_are_as_one_types_them(arguments: list[str], expected: str) -> None:
    assert command_line(arguments) == expected


def test_all_commands_and_the_latest_record(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", full_rows(), command=("fit", "-c", "a.yaml"))
    (path / "version_1").mkdir()
    for name, old, new in (("run.json", "a.yaml", "b.yaml"), ("config.yaml", "0", "7")):
        text = (path / "version_0" / name).read_text()
        (path / "version_1" / name).write_text(text.replace(old, new))
    shutil.copytree(path / "version_1", path / "version_2")  # the same command again
    provenance = read_provenance(RunFolder(path, tuple(full_rows())))
    assert provenance.commands == [f"python -m matwheel.fit fit -c {name}.yaml" for name in "ab"]
    assert provenance.config == "seed_everything: 7\n"
    assert ("git commit", "abc123") in provenance.facts.lines
    assert ("seeds", "0") in provenance.facts.lines
    assert {line[:2] for line in provenance.stages.lines} >= {("samples", "finished"), ("predictor-F_x_k", "finished")}


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", full_rows())
    (path / "version_0" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is not JSON that can be read"):
        read_provenance(RunFolder(path, tuple(full_rows())))
