from pathlib import Path

import pytest

from matwheel.config_syntax import check_config
from matwheel.fit import main

KNOWN = {"data", "trainer", "seed_everything"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"trainer:\n  max_epochs: 3\n max_steps: 4\n", r"my\.yaml, line 3, column 2: .*correct the config"),
        (b"trainer:\n\tmax_epochs: 3\n", r"my\.yaml, line 2, column 1: .*correct the config"),
        (b"\x89PNG\x00", r"my\.yaml is not YAML"),
        (b"trainer:\n  max_epochs: 3\ndataset: my.csv\n", r"my\.yaml, line 3: .* mean 'data\.init_args\.dataset'\?"),
        (b"max_epochs: 3\n", r"my\.yaml, line 1: .* mean 'trainer\.max_epochs'\?"),
        (b"trainr:\n  max_epochs: 3\n", r"no option 'trainr' on the first level; did you mean 'trainer'\?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        check_config(config, KNOWN)


@pytest.mark.parametrize("content", ["", "text", "trainer.max_epochs: 3\ndata+: {}\n"])
def test_everything_else_is_left_to_the_parser(content: str, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(content)
    check_config(config, KNOWN)


def test_the_command_line_names_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("dataset: my.csv\n")
    for given in (["-c", str(config)], [f"--config={config}"]):
        with pytest.raises(SystemExit):
            main(["fit", "-c", "predictor/cgcnn.yaml", *given])
        assert f"error: {config}, line 1: there is no option 'dataset'" in capsys.readouterr().err
