from pathlib import Path
from typing import Any

import pytest

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
