"""The studies under experiments/, and that of the documentation, can be run."""

import re
import sys
from pathlib import Path

import pytest

from matwheel.fit import main
from matwheel.studies.study_file import Study, read_study

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "experiments").glob("*/study.yaml"))
FURTHER = sorted(
    path
    for path in (ROOT / "experiments").glob("*/*.yaml")
    if path.name != "study.yaml" and "\ngrid:" in path.read_text()
)


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATWHEEL_DATA", "data")
    monkeypatch.setattr(sys, "argv", ["fit"])


def _printed_configs(study: Study, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the first and the last run would be."""
    printed = []
    for cell in (study.cells[0], study.cells[-1]):
        with pytest.raises(SystemExit) as stop:
            main(["fit", *cell.arguments(), "--print_config"])
        assert stop.value.code == 0
        printed.append(capsys.readouterr().out)
    return printed


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_a_shipped_study(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = read_study(path)
    assert study.name == path.parent.name
    assert len(study.cells) == 20
    for cell, printed in zip((study.cells[0], study.cells[-1]), _printed_configs(study, capsys), strict=True):
        assert f"dataset: {cell.labels['dataset']}\n" in printed
        assert "matwheel.flywheel.callback.Flywheel" in printed
    assert f"python -m matwheel.study experiments/{study.name}/study.yaml" in path.with_name("README.md").read_text()


@pytest.mark.parametrize("path", FURTHER, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_further_study_of_an_experiment(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for printed in _printed_configs(read_study(path), capsys):
        assert "matwheel.flywheel.callback.Flywheel" in printed
    assert f"python -m matwheel.study {path.relative_to(ROOT)}" in path.with_name("README.md").read_text()


def test_the_study_of_the_documentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    path = tmp_path / "studies" / "study.yaml"
    path.parent.mkdir()
    path.write_text(example[1])
    study = read_study(path)
    assert len(study.cells) == 5 * 4 * 2 * 2
    first, last = _printed_configs(study, capsys)
    assert "synthetic_ratio: 0.5" in first
    assert "labelled_fraction: 0.1" in last
    assert "hidden_dim: 128" in last
