"""The likeliest mistakes end with the message of docs/mistakes.md and without a traceback."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from matwheel.fit import main
from tests.data.samples import CAESIUM_CHLORIDE, cif
from tests.small_data import write_small_table
from tests.test_cli import CONFIGS, QUIET
from tests.trained import SMALL_NETWORK, train_predictor

DOCUMENT = (Path(__file__).parents[1] / "docs" / "mistakes.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ")[-2:] for line in DOCUMENT.splitlines() if line.startswith("| ")][1:]
CASES = [tuple(cell.strip("` |") for cell in row) for row in ROWS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    write_small_table(folder / "my.xyz", count=24)
    write_small_table(folder / "two.xyz", count=2)
    structures = {"id": ["a"], "cif": [cif(CAESIUM_CHLORIDE)], "band_gap": [1.0]}
    pd.DataFrame(structures).to_csv(folder / "my.csv", index=False)
    (folder / "notes.txt").write_text("notes")
    (folder / "best.ckpt").write_bytes(train_predictor(folder).read_bytes())
    return folder


def arguments(given: str) -> list[str]:
    """The command line of a row, with what it leaves to be understood."""
    command, *rest = given.split() if given.startswith("test ") else ["fit", *given.split()]
    options = {
        "-c": str(CONFIGS / "predictor" / "cgcnn.yaml"),
        "--data.dataset": "my.csv" if "structure_column" in given else "my.xyz",
        "--data.target": "poly_total",
        "--data.cache_dir": "cache",
        "--trainer.accelerator": "cpu",
    }
    own = dict(zip(rest[::2], rest[1::2], strict=True))
    return [command, *(part for option in {**options, **own}.items() for part in option), *SMALL_NETWORK, *QUIET]


@pytest.mark.parametrize(("given", "message"), CASES, ids=[given for given, _ in CASES])
def test_a_mistake_ends_with_its_message(
    given: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["fit"])
    monkeypatch.setattr("lightning.pytorch.accelerators.cuda.CUDAAccelerator.is_available", staticmethod(lambda: False))
    with pytest.raises(SystemExit) as stop:
        main(arguments(given))
    assert stop.value.code in (1, 2)
    printed = capsys.readouterr().err
    parts = [re.escape(part) for part in message.split("…")]
    assert re.search("^error: " + ".*".join(parts), printed, re.MULTILINE), printed
    assert "Traceback" not in printed
    assert "usage:" not in printed


def test_the_document_has_them_all() -> None:
    assert len(CASES) == 17
