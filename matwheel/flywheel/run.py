"""One run of the wheel: where its stages are recorded, on what hardware, under which seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from matwheel.flywheel.filters import NoCrystalLeftError
from matwheel.flywheel.fingerprint import Json
from matwheel.flywheel.ledger import Ledger, StageResult, derive_seed
from matwheel.flywheel.trainers import StageTrainers, seed_all

Work = Callable[[Path, int], Mapping[str, float]]
"""What a stage does: folder to write into and seed in, metrics out."""


@dataclass(frozen=True)
class Run:
    """Runs stages.

    Attributes:
        ledger: Where they are recorded.
        trainers: Makes their trainers.
        seed: Seed of the run.
    """

    ledger: Ledger
    trainers: StageTrainers
    seed: int

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.ledger.processes.is_first

    def seed_for(self, purpose: str) -> int:
        """A seed for one purpose, independent of those for others."""
        return derive_seed(self.seed, purpose)

    def stage(
        self,
        name: str,
        work: Work,
        config: Json,
        inputs: Mapping[str, str],
        purpose: str | None = None,
        alone: bool = False,
    ) -> StageResult:
        """Run a stage unless it was finished before (see `Ledger.run`).

        Global generators of random numbers are seeded before the work, so that it does not matter which stages this
        process has run before.

        Args:
            name: Name of the stage.
            work: What it does.
            config: Description of all settings that influence the result.
            inputs: Keys of the stages, or hashes of the data, that the result depends on.
            purpose: What its seed is derived from; the name by default.
            alone: Whether the first process does the work without the others.
        """
        seed = self.seed_for(purpose if purpose is not None else name)
        # What the first process does alone, it does without a trainer.
        determining: Json = config if alone else {"settings": config, "precision": self.trainers.precision}

        def seeded(folder: Path) -> Mapping[str, float]:
            seed_all(seed)
            if not alone:
                return work(folder, seed)
            useless: NoCrystalLeftError | None = None
            metrics: Mapping[str, float] = {}
            if self.is_first:
                try:
                    metrics = work(folder, seed)
                except NoCrystalLeftError as error:  # the others must take the same way
                    useless = error
            useless = self.ledger.processes.broadcast(useless)
            if useless is not None:
                raise useless
            return metrics

        with self.trainers.tracker.stage(name, config, inputs, seed) as track:
            result = self.ledger.run(name, seeded, determining, inputs, seed)
            result = replace(result, metrics=self.ledger.processes.broadcast(dict(result.metrics)))
            track(result)
        return result
