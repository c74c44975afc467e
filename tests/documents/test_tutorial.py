"""The tutorial, from its first command to its last, with the built wheel in an empty folder."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.documents.markdown import ROOT, blocks, commands
from tests.documents.shortened import FEW, shortened
from tests.small_data import write_small_table
from tests.wheel import environment, install_wheel

TUTORIAL = ROOT / "docs" / "tutorial.md"
INSTALLATION = ["pip install matwheel"]
"""Done by `install_wheel` instead, which needs no network."""
SKIPPED = "skipped rows"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    site = install_wheel(tmp_path)
    folder = tmp_path / "empty"
    folder.mkdir()
    shell = {"cwd": folder, "env": environment(site, tmp_path / "cache"), "check": True}
    for block in blocks(TUTORIAL):
        if block.title == SKIPPED:
            assert (folder / "runs/my_crystals-flywheel/version_0/skipped_rows.csv").read_text() == block.text
        elif block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == "python":
            subprocess.run([sys.executable, "-c", block.text], **shell)
        elif block.language == "bash" and commands(block) != INSTALLATION:
            (folder / FEW).parent.mkdir(exist_ok=True)
            write_small_table(folder / FEW, count=12)
            subprocess.run(["bash", "-euc", shortened("\n".join(commands(block)))], **shell)
    assert (folder / "report.html").stat().st_size > 10_000
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 99
    # Trained for one epoch, all three models may say the highest value that a model may say.
    assert predictions["spread"].ge(0).all()
    assert predictions["prediction"].between(predictions["low"], predictions["high"]).all()
    assert len(list((folder / "samples/cif").iterdir())) == 32
    assert (folder / "samples/samples-evaluation/metrics.json").is_file()
    model = {"README.md", "config.yaml", "model.safetensors", "validation_predictions.csv"}
    assert {path.name for path in (folder / "my_model").iterdir()} == model
