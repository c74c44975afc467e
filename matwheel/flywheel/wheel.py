"""The wheel: baselines, then rounds of labelling, generating and training, a row of results for every predictor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from matwheel.data.crystal import CrystalTable
from matwheel.flywheel.arms import ArmName, Labels, Scenario
from matwheel.flywheel.filters import NoCrystalLeftError
from matwheel.flywheel.fits import check_predictors, evaluate, fit
from matwheel.flywheel.generation import GeneratorRecipe
from matwheel.flywheel.mixtures import LabelledCrystals
from matwheel.flywheel.names import BASELINE
from matwheel.flywheel.references import BASELINES, REUSED, Baseline, Reuse
from matwheel.flywheel.results import ResultRow, read_results, write_results
from matwheel.flywheel.rounds import RoundRow, best_round, is_exhausted, write_rounds
from matwheel.flywheel.run import Run
from matwheel.flywheel.turn import Turn, TurnSettings
from matwheel.metrics.drift import SetStatistics, set_statistics
from matwheel.models.checkpoints import load_weights
from matwheel.predictors.predictor import Fitting, Predictor

RESULTS = "results.csv"
ROUNDS = "rounds.csv"


@dataclass
class Wheel:
    """A comparison of arms over rounds.

    Attributes:
        run: Runs the stages.
        scenario: The real crystals and the arms there are.
        settings: How each turn is made.
        arms: The arms to train, in order; the last one teaches the next round and is judged on validation.
        predictors: Predictors that are fitted to what each arm is trained on, beside the model of the settings.
        baselines: Reference predictors, trained on the labelled real crystals.
        reuse: What of the generator serves predictors of the labelled real crystals.
        rounds: Largest number of turns.
        patience: Stop after so many rounds without a lower validation error of the last arm; None for never.
    """

    run: Run
    scenario: Scenario
    settings: TurnSettings
    arms: tuple[ArmName, ...]
    predictors: tuple[Predictor, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    reuse: tuple[Reuse, ...] = ()
    rounds: int = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        self.turns: list[Turn] = []
        """Finished rounds."""
        self.results: list[ResultRow] = []
        """What is known so far, as in `results.csv`."""
        self.round_rows: list[RoundRow] = []
        """What is known so far, as in `rounds.csv`."""
        for name in self.arms:
            self.scenario.check(name)
        self.source = self.scenario.source(self.arms[-1])
        if self.rounds > 1 and (self.source is None or not self.scenario.changes(self.arms[-1])):
            raise ValueError(f"the last arm, {self.arms[-1]!r}, is the same in every round: put another one last")
        known = self.scenario.known
        if self.settings.labeller.uses_condition and known.target not in known.conditions:
            raise ValueError(
                f"synthetic crystals are labelled by their condition: add the target {known.target!r} to the "
                f"conditions {known.conditions}, or choose another labeller"
            )
        if self.settings.agreement is not None:
            self.settings.agreement.check(self.settings.num_teachers, known.target, known.conditions)
        source = self.settings.generation.source
        if isinstance(source, GeneratorRecipe):
            source.conditions.check(self.settings.num_teachers, known.target, known.conditions)
            if any(self.scenario.depends_on(name) is not None for name in self.arms):
                source.generator.check_sizes(known.table)
        if self.settings.pseudo_labeller.uses_condition:
            raise ValueError("real crystals were not generated under a condition: choose another pseudo_labeller")
        names = [predictor.name for predictor in self.predictors]
        if len(set(names)) < len(names):
            raise ValueError(f"each predictor needs a name of its own, unlike {', '.join(names)}")
        labelling = (*self.settings.labeller.predictors, *self.settings.pseudo_labeller.predictors)
        check_predictors((*self.predictors, *labelling), taken=(self.own_predictor, *REUSED.values()))

    def spin(self) -> None:
        """Run everything that is not finished; whatever is known is in the tables on disk at any time.

        Raises:
            ValueError: If the folder has results of other data, or of another split or seed.
        """
        self._spare_others()
        for baseline in self.baselines:
            self._add(self._baseline(baseline))
        for number in range(1, self.rounds + 1):
            turn = Turn(self.run, self.scenario, self.settings, number, self.turns[-1] if self.turns else None)
            for kind in self.reuse:
                self._add(self._reused(turn, kind))
            self._train_arms(turn)
            self.turns.append(turn)
            if self.source is None:
                return
            self._add_round(turn, turn.synthetic(self.source))
            if is_exhausted(self._val_mae, self.patience):
                return

    def _spare_others(self) -> None:
        """Refuse to replace results that were not made with these data, split and seed."""
        path = self.run.ledger.folder / RESULTS
        rows = read_results(path) if path.is_file() else []
        for name, value in self._names.items():
            if rows and getattr(rows[0], name) != value:
                raise ValueError(
                    f"{path.parent} holds results with {name} {getattr(rows[0], name)!r}, this run has {value!r}: give "
                    "it another name (--name), or delete that folder"
                )

    def _train_arms(self, turn: Turn) -> None:
        """Train the arms of a round; a generator without a usable crystal costs only the arms that wait for it.

        Raises:
            NoCrystalLeftError: If there is such a generator, when all other arms are in the results.
        """
        useless: dict[Labels, NoCrystalLeftError] = {}
        without: list[ArmName] = []
        for name in self.arms:
            if turn.number > 1 and not self.scenario.changes(name):
                continue
            source = self.scenario.depends_on(name)
            if source not in useless:
                try:
                    self._add(self._arm(turn, name))
                    continue
                except NoCrystalLeftError as error:
                    assert source is not None
                    useless[source] = error
            without.append(name)
        for predictor in self.predictors:
            for name in self.arms:
                repeats = turn.number > 1 and not self.scenario.changes(name)
                # Only networks go on from the weights of another training.
                if name not in without and not repeats and self.scenario.arms[name].start is None:
                    self._add(self._fitted(turn, name, predictor))
        if useless:
            first = next(iter(useless.values()))
            raise NoCrystalLeftError(f"{first}. Round {turn.number} has no results of {', '.join(without)}")

    @property
    def best(self) -> Turn:
        """The round whose last arm has the lowest validation error."""
        return self.turns[best_round(self._val_mae)]

    @property
    def synthetic(self) -> CrystalTable | None:
        """The synthetic crystals of the last arm in the best round."""
        return None if self.source is None else self.best.synthetic(self.source).table

    def load_best(self, model: L.LightningModule) -> None:
        """Put the weights of the last arm in the best round into a model."""
        load_weights(model, self.best.train(self.arms[-1]).checkpoint)

    @property
    def _val_mae(self) -> list[float]:
        return [turn.train(self.arms[-1]).stage.metrics["val_mae"] for turn in self.turns]

    def _baseline(self, kind: Baseline) -> ResultRow:
        known, predictor = self.scenario.known, BASELINES[kind]

        def work(folder: Path, seed: int) -> dict[str, float]:
            return evaluate(predictor, fit(predictor, known, Fitting(seed, folder, self.run.trainers)), known, folder)

        result = self.run.stage(
            BASELINE.format(kind),
            work,
            {"kind": kind},
            {"data": self.scenario.known_key},
            purpose="baseline",
            alone=True,
        )
        return self._row(kind, kind, 0, len(known.train_rows), 0, result.metrics, result.seconds)

    def _reused(self, turn: Turn, kind: Reuse) -> ResultRow:
        result, n_real = turn.reuse(kind), len(self.scenario.known.train_rows)
        arm, predictor = self.scenario.real_arm, REUSED[kind]
        return self._row(arm, predictor, turn.number, n_real, 0, result.metrics, result.seconds)

    def _arm(self, turn: Turn, name: ArmName) -> ResultRow:
        trained = turn.train(name)
        metrics, seconds, round = trained.stage.metrics, trained.stage.seconds, self._round_of(turn, name)
        return self._row(name, self.own_predictor, round, trained.n_real, trained.n_synthetic, metrics, seconds)

    def _fitted(self, turn: Turn, name: ArmName, predictor: Predictor) -> ResultRow:
        stage, mixture, round = turn.fits.stage(predictor, name), turn.fits.mixture(name), self._round_of(turn, name)
        return self._row(name, predictor.name, round, mixture.n_real, mixture.n_synthetic, stage.metrics, stage.seconds)

    def _round_of(self, turn: Turn, name: ArmName) -> int:
        return turn.number if self.scenario.needs_a_turn(name) else 0

    @property
    def own_predictor(self) -> str:
        """Name of the trainer's own model."""
        model = self.settings.model
        return type(getattr(model, "network", model)).__name__

    def _row(
        self,
        arm: str,
        predictor: str,
        round: int,
        n_real: int,
        n_synthetic: int,
        metrics: Mapping[str, float],
        seconds: float,
    ) -> ResultRow:
        errors: dict[str, Any] = {name: metrics[name] for name in ("test_mae", "test_rmse", "test_r2", "val_mae")}
        return ResultRow(
            **self._names,
            arm=arm,
            predictor=predictor,
            round=round,
            n_real=n_real,
            n_synthetic=n_synthetic,
            **errors,
            seconds=seconds,
        )

    def _round_row(self, turn: Turn | None, arm: ArmName, crystals: CrystalTable, key: str) -> RoundRow:
        """What the crystals of a round, or for comparison the real ones, are like, and how well the arm did on them."""
        training = self.scenario.known.table.take(self.scenario.train_rows)
        labels = crystals.properties[self.scenario.known.target]
        stage = self.run.stage(
            f"statistics{turn.suffix}" if turn is not None else "statistics-real",
            lambda folder, seed: asdict(set_statistics(crystals, labels[np.isfinite(labels)], training)),
            {},
            {"data": self.scenario.known_key, "training": training.fingerprint(), "crystals": key},
            alone=True,
        )
        number = turn.number if turn is not None else 0
        own = (row for row in reversed(self.results) if (row.arm, row.predictor) == (arm, self.own_predictor))
        errors = next(own, None)
        return RoundRow(
            **self._names,
            arm=arm,
            round=number,
            n_synthetic=len(crystals) if turn is not None else 0,
            val_mae=errors.val_mae if errors is not None else float("nan"),
            test_mae=errors.test_mae if errors is not None else float("nan"),
            **asdict(SetStatistics(**stage.metrics)),
        )

    @property
    def _names(self) -> dict[str, Any]:
        """The columns that tell a run from others."""
        known = self.scenario.known
        return {
            "dataset": known.dataset,
            "target": known.target,
            "scenario": self.scenario.name,
            "split": _split_name(known.split),
            "seed": self.run.seed,
        }

    def _add(self, row: ResultRow) -> None:
        self.results.append(row)
        if self.run.is_first:
            write_results(self.run.ledger.folder / RESULTS, self.results)

    def _add_round(self, turn: Turn, synthetic: LabelledCrystals) -> None:
        if not self.round_rows:
            real = self.scenario.known.table.take(self.scenario.train_rows)
            self.round_rows.append(self._round_row(None, self.scenario.real_arm, real, self.scenario.known_key))
        self.round_rows.append(self._round_row(turn, self.arms[-1], synthetic.table, synthetic.key))
        if self.run.is_first:
            write_rounds(self.run.ledger.folder / ROUNDS, self.round_rows)


def _split_name(split: object) -> str:
    """Kind of split and the number that tells it from others of its kind."""
    numbers = [getattr(split, name) for name in ("index", "fold", "seed") if hasattr(split, name)]
    return "-".join([type(split).__name__, *map(str, numbers[:1])])
