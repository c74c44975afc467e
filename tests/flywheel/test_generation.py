"""Weights that the training of a generator starts from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matwheel.flywheel import generation
from matwheel.flywheel.generation import LearnedGeneration
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import FitSettings
from matwheel.flywheel.trainers import StageTrainers


class Generator:
    def __init__(self, start: str) -> None:
        self.start: str | None = start


@pytest.mark.parametrize("continued", [False, True])
def test_a_generator_that_continues_does_not_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, continued: bool
) -> None:
    """`start` is loaded when training begins, which must not undo pre-training or the round before."""
    seen: list[Any] = []

    def train(model: Generator, *_: Any) -> dict[str, float]:
        seen.append(model.start)
        return {}

    monkeypatch.setattr(generation, "train_generator", train)
    monkeypatch.setattr(generation, "load_weights", lambda model, path: seen.append(path))
    monkeypatch.setattr(generation, "data_fingerprint", lambda data: "data")
    before: Any = SimpleNamespace(generator=SimpleNamespace(key="before", folder=tmp_path / "before"))
    recipe: Any = SimpleNamespace(generator=Generator("weights.ckpt"), pretraining=None, generator_fit=FitSettings())
    nothing: Any = None
    with Ledger(tmp_path) as ledger:
        run = Run(ledger, StageTrainers(), 0)
        made = LearnedGeneration(recipe, run, nothing, nothing, 2, start=before if continued else None)
        assert made.generator.metrics == {}
    assert seen == ([tmp_path / "before" / "best.ckpt", None] if continued else ["weights.ckpt"])
    assert recipe.generator.start == "weights.ckpt"
