from pathlib import Path

import pytest

from matwheel.shipped_configs import configs_folder
from matwheel.studies.study_file import read_study

STUDY = """
name: curves
config: full.yaml
options: {data.data_dir: "${oc.env:SOME_FOLDER}/data"}
grid:
  dataset:
    ours: {data.dataset: ours.csv, config: [data.yaml]}
    theirs:
      data.dataset: mp_poly_total
  labelled_fraction: {data.labelled_fraction: [0.1, 0.5, 1]}
  plain:
    "yes": {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOME_FOLDER", "/somewhere")
    for name in ("full.yaml", "data.yaml"):
        (tmp_path / name).write_text("trainer: {}\n")
    return tmp_path


def _write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_a_study(folder: Path) -> None:
    study = read_study(_write(folder, STUDY))
    assert study.name == "curves"
    assert study.axes == ("dataset", "labelled_fraction", "plain")
    assert [cell.name for cell in study.cells[:2]] == [
        "dataset=ours,labelled_fraction=0.1,plain=yes",
        "dataset=ours,labelled_fraction=0.5,plain=yes",
    ]
    assert len(study.cells) == 6
    first = study.cells[0].settings
    assert first.configs == (folder / "full.yaml", folder / "data.yaml")
    assert first.options == (
        ("data.data_dir", "/somewhere/data"),
        ("data.dataset", "ours.csv"),
        ("data.labelled_fraction", 0.1),
    )


def test_configs_are_found_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(folder, STUDY)
    monkeypatch.chdir(folder)
    assert read_study(Path("study.yaml")).cells[0].settings.configs[0] == folder / "full.yaml"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("config: full.yaml", "config: none.yaml", r"there is no config 'none\.yaml'.*relative to the study file"),
        ("${oc.env:SOME_FOLDER}", "${oc.env:NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE.*set it"),
        ("config: full.yaml", "config: [3]", r"config must be a text or a list of them, not \[3\]"),
        ("name: curves", "", "needs a name"),
        ("name: curves", "name: curves\nengine: ray", "has engine, but a study consists of name"),
        (STUDY, "id,cif,band_gap\na,b,1\n", "is no study file, which is YAML with name"),
        ("options: {", "options: {{", "is not a study file that can be read"),
        ('"yes": {}', '"yes": 3', "plain yes must be a mapping of names to values, not 3"),
        ("grid:", "share: [split]\ngrid:", "cannot be shared along split: the axes are dataset, labelled_fraction"),
        ("grid:", "grid: [1]\nold:", "has old"),
    ],
)
def test_files_that_cannot_be_used(folder: Path, old: str, new: str, message: str) -> None:
    assert old in STUDY
    with pytest.raises(ValueError, match=message) as error:
        read_study(_write(folder, STUDY.replace(old, new)))
    assert "study.yaml" in str(error.value)


def test_a_config_of_the_package_is_found_by_name_where_no_file_is(folder: Path) -> None:
    named = _write(folder, STUDY.replace("config: full.yaml", "config: flywheel/jitter.yaml"))
    (shipped,) = {cell.settings.configs[0] for cell in read_study(named).cells}
    assert shipped == configs_folder() / "flywheel" / "jitter.yaml"
    own = folder / "flywheel" / "jitter.yaml"
    own.parent.mkdir()
    own.touch()
    assert read_study(named).cells[0].settings.configs[0] == own


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a study file that can be read"):
        read_study(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", ["", "- a\n", "just text\n"])
def test_files_of_another_kind(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"study\.yaml"):
        read_study(_write(tmp_path, content))


@pytest.mark.parametrize("content", ["id,cif\n" * 1000, "id " * 1000 + ": 1"])
def test_a_table_in_place_of_a_study_is_not_printed(content: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(ValueError, match=r"table\.csv") as error:
        read_study(tmp_path / "table.csv")
    assert len(str(error.value)) < 200 + 2 * len(str(tmp_path))  # the YAML reader names the file again
