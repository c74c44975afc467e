from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from matwheel.fit import main
from matwheel.shipped_configs import configs_folder, find_config, with_shipped_configs

FULL = str(configs_folder() / "flywheel" / "full.yaml")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["flywheel/full.yaml", "configs/flywheel/full.yaml"])
def test_a_config_of_the_package_is_found_by_name(name: str) -> None:
    assert Path(FULL).is_file()
    assert find_config(name) == FULL
    predictors = "--trainer.callbacks.predictors"
    assert with_shipped_configs([predictors, "predictors/strong.yaml"])[1].endswith("configs/predictors/strong.yaml")
    assert with_shipped_configs(["fit", "-c", name, f"--config={name}", name]) == [
        "fit",
        "-c",
        FULL,
        f"--config={FULL}",
        name,
    ]


def test_a_file_of_ones_own_comes_first() -> None:
    Path("flywheel").mkdir()
    Path("flywheel/full.yaml").touch()
    assert find_config("flywheel/full.yaml") == "flywheel/full.yaml"


@pytest.mark.parametrize("name", ["../configs/flywheel/full.yaml", "flywheel/ful.yaml", "none.yml", "/etc/x.yaml"])
def test_nothing_else_is_found(name: str) -> None:
    with pytest.raises(ValueError, match=r"there is no config .*Those of the package: data/"):
        find_config(name)


@pytest.mark.parametrize("text", ["", "flywheel", "{trainer: {max_epochs: 1}}", f"[{'A, ' * 999}]"])
def test_what_is_no_name_of_a_file_is_left_to_the_parser(text: str) -> None:
    assert find_config(text) == text


@given(st.lists(st.text(max_size=9)))
def test_other_arguments_stay(args: list[str]) -> None:
    assert with_shipped_configs(args) == args


def test_the_command_line_finds_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", "predictor/cgcnn.yaml", "--print_config"])
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] == 40
