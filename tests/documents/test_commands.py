"""Every command of the README and of docs/ is run; the tutorial has a test of its own."""

import importlib
import itertools
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.io import read

from matwheel import api
from matwheel.export import main as export
from matwheel.fit import main as fit
from tests.documents.markdown import DOCUMENTS, ROOT, Block, blocks, commands, inline_commands
from tests.documents.shortened import FEW, shorten_functions, shortened
from tests.small_data import write_small_table

TESTED = [document for document in DOCUMENTS if document.name != "tutorial.md"]
RUN = "runs/mp_poly_total-flywheel"
PLACEHOLDERS = {
    "runs/NAME...": RUN,
    "runs/NAME": RUN,
    "FILE.extxyz": "new.extxyz",
    "FILE": "new.extxyz",
    "HOST": "localhost",
}
EXCEPTIONS = {
    "git clone https://github.com/matwheel/matwheel": "needs a network",
    "cd matwheel": "into that clone",
    "make test": "runs this test",
    "make lint": "part of .ci/run",
    "make docs": "part of .ci/run",
    "make dist": "tests/test_package.py",
    "make lowest": "needs a package index and half an hour",
    'pip install "matwheel[ray]"': "needs a package index",
    'pip install "matwheel[slurm]"': "needs a package index",
    'pip install "matwheel[sweeps]"': "needs a package index",
    "wandb sweep experiments/sweeps/predictor.yaml": "needs an account; tests/test_sweeps.py",
    "wandb agent ENTITY/PROJECT/SWEEP": "needs an account",
    "python experiments/sweeps/optuna_sweep.py --trials 30 --data.dataset my_crystals.csv --data.target my_property": (
        "needs optuna; tests/test_sweeps.py"
    ),
    "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK": "part of a job of SLURM",
    "python -m tests.e2e.kill --kills 20": "tests/e2e/test_kill.py",
}
"""Commands that are not run, with the reason."""
_SEVERAL = re.compile(r"^(torchrun|srun)\b|--trainer\.devices")
"""Several processes: here the options are only read, tests/e2e/test_two_processes.py runs such commands."""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the documents take for granted, as the working directory."""
    folder = tmp_path / "work"
    (folder / "few").mkdir(parents=True)
    for name in ("configs", "experiments"):
        (folder / name).symlink_to(ROOT / name)
        (tmp_path / name).symlink_to(ROOT / name)  # the study of docs/studies.md lies in a folder beside
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MATWHEEL_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["fit"])
    shorten_functions(monkeypatch)
    write_small_table(folder / FEW, count=24)
    write_small_table(folder / "new.extxyz", count=4)
    shutil.copy("new.extxyz", "generated.extxyz")
    crystals = api.read_structures([Path(FEW)]).table
    (folder / "new_crystals").mkdir()
    for crystal in crystals.take(range(3)):
        crystal.to_structure().to(f"new_crystals/{crystal.id}.cif")
    columns = {"id": crystals.ids, "cif": [crystal.to_structure().to(fmt="cif") for crystal in crystals]}
    values = {"my_property": crystals.properties["poly_total"], "band_gap": crystals.properties["band_gap"]}
    mine = pd.DataFrame({**columns, **values})
    mine.loc[::6, "my_property"] = None  # crystals without a label
    mine.to_csv("my_crystals.csv", index=False)
    (folder / "study.yaml").write_text(next(b.text for b in blocks(ROOT / "docs/studies.md") if b.language == "yaml"))
    for name, command in {
        "best": "fit -c configs/predictor/cgcnn.yaml",
        "generator": "fit -c configs/generator/con_cdvae.yaml",
        "prior": "fit -c configs/generator/prior.yaml --model.vae_checkpoint generator.ckpt",
        "wheel": "fit -c configs/flywheel/full.yaml",
    }.items():
        options = [] if name == "wheel" else ["--name", name]
        fit([*shlex.split(shortened(f"python -m matwheel.fit {command}"))[3:], *options])
        if options:
            shutil.copy(f"runs/{name}/version_0/checkpoints/best.ckpt", f"{name}.ckpt")
    export([f"{RUN}/stages/prior/best.ckpt", "--out", "my_generator"])
    for index in range(3):
        shutil.copytree(RUN, f"runs/split-{index}")
    yield folder
    for name in ("my_network", "my_sampler"):
        sys.modules.pop(name, None)


def typed(document: Path) -> list[str]:
    """All commands of a document."""
    typed = [line for block in blocks(document) if block.language == "bash" for line in commands(block)]
    return [*typed, *inline_commands(document)]


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found is not None, f"no target {target}"
    return [line.strip().replace("$(BIN)/python", "python") for line in found[1].splitlines()]


def run(line: str) -> None:
    """Run a command in this process, shortened."""
    print(line)  # shown when it fails
    if line in EXCEPTIONS:
        return
    if line.startswith("make "):
        for command in recipe(line.removeprefix("make ")):
            run(command)
        return
    for placeholder, value in PLACEHOLDERS.items():
        line = line.replace(placeholder, value)
    if _SEVERAL.search(line):
        options = shlex.split(line[line.index("-m matwheel.fit") :])[2:]
        with pytest.raises(SystemExit) as stop:
            fit([*options, "--print_config"])
        assert stop.value.code == 0
        return
    words = shlex.split(shortened(line))
    variables = list(itertools.takewhile(lambda word: "=" in word, words))
    words = words[len(variables) :]
    assert words[:2] == ["python", "-m"], f"{line!r} is not known here: add it to EXCEPTIONS with a reason"
    module = importlib.import_module(words[2] if words[2] != "matwheel.report" else "matwheel.report.__main__")
    with pytest.MonkeyPatch.context() as environment:
        for variable in variables:
            environment.setenv(*variable.split("=", 1))
        module.main(words[3:])


def work_through(block: Block, names: dict[str, object]) -> None:
    """Do what a block is for."""
    if block.title:
        Path(block.title).write_text(block.text, encoding="utf-8")
    elif block.language == "bash":
        for line in commands(block):
            run(line)
    elif block.language == "python":
        names["__name__"] = "__main__"  # a script
        exec(compile(block.text, "block", "exec"), names)


@pytest.mark.slow
def test_every_command_runs(workplace: Path) -> None:
    numbers = np.linspace(1.0, 2.0, 5)
    for document in TESTED:
        names = {"structures": read("new.extxyz", ":"), "target": numbers, "predicted": numbers}
        for block in blocks(document):
            work_through(block, names)
        for line in inline_commands(document):
            run(line)
    assert pd.read_csv("filters.csv")["prediction"].notna().all()
    assert Path("runs/greedy/results.csv").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_has_a_language(document: Path) -> None:
    fences = [line for line in document.read_text(encoding="utf-8").splitlines() if line.startswith("```")]
    assert len(fences) == 2 * len(blocks(document))
    assert all(block.language in ("bash", "text", "python", "yaml") for block in blocks(document))


def test_no_exception_is_stale() -> None:
    everything = {line for document in TESTED for line in typed(document)}
    assert set(EXCEPTIONS) <= everything
