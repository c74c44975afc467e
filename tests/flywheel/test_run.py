from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from matwheel.flywheel.filters import NoCrystalLeftError
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.processes import Processes
from matwheel.flywheel.run import Run
from matwheel.flywheel.trainers import StageTrainers


def test_all_processes_learn_that_a_generator_is_useless(tmp_path: Path) -> None:
    """The first process alone filters crystals; the others must not wait for a stage that it gave up."""
    told: list[Any] = []

    def tell(value: Any) -> Any:
        told.append(value)
        return value

    def filtered(folder: Path, seed: int) -> dict[str, float]:
        raise NoCrystalLeftError("none left")

    def elsewhere(folder: Path, seed: int) -> dict[str, float]:
        raise AssertionError("the first process works alone")

    first = Processes(is_first=True, barrier=lambda: None, broadcast=tell)
    other = Processes(is_first=False, barrier=lambda: None, broadcast=lambda value: told.pop(0))
    for processes, work in ((first, filtered), (other, elsewhere)):
        with pytest.raises(NoCrystalLeftError, match="none left"), Ledger(tmp_path, processes) as ledger:
            Run(ledger, StageTrainers(), 0).stage("crystals", work, {}, {}, alone=True)
    assert told == []


def test_what_ran_before_does_not_matter(tmp_path: Path) -> None:
    """As initial weights of a network made in a stage, after a kill or in one go."""

    def drawn(folder: Path, seed: int) -> dict[str, float]:
        return {"torch": float(torch.rand(())), "numpy": float(np.random.rand())}  # noqa: NPY002

    found = []
    for before in (0, 3):
        torch.rand(before), np.random.rand(before)  # noqa: NPY002
        with Ledger(tmp_path / str(before)) as ledger:
            found.append(dict(Run(ledger, StageTrainers(), 0).stage("encoder", drawn, {}, {}).metrics))
    assert found[0] == found[1]


def test_stages_of_another_precision_run_again(tmp_path: Path) -> None:
    ran = []

    def work(folder: Path, seed: int) -> dict[str, float]:
        ran.append(folder.name.partition(".")[0])
        return {}

    for precision in ("32-true", "bf16-mixed", "bf16-mixed"):
        trainers = StageTrainers()
        trainers.outer = SimpleNamespace(precision=precision)  # type: ignore[assignment]
        with Ledger(tmp_path) as ledger:
            run = Run(ledger, trainers, 0)
            run.stage("predictor", work, {}, {})
            run.stage("filter", work, {}, {}, alone=True)  # no trainer has a part in it
    assert ran == ["predictor", "filter", "predictor"]
