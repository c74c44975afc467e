"""One turn of the wheel: teachers label, a generator makes crystals, predictors are trained on every mixture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lightning as L
import numpy as np

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.agreement import LabelAgreement
from matwheel.flywheel.arms import ArmName, Labels, Scenario
from matwheel.flywheel.fingerprint import Json, data_fingerprint, describe
from matwheel.flywheel.fits import Fits, evaluate, fit
from matwheel.flywheel.generation import (
    DerivedGeneration,
    Generation,
    GenerationSettings,
    GeneratorRecipe,
    LearnedGeneration,
)
from matwheel.flywheel.labels import Labeller, Teacher, read_labels, write_labels
from matwheel.flywheel.ledger import StageResult
from matwheel.flywheel.mixtures import LabelledCrystals, Mixture, TrainedArm
from matwheel.flywheel.names import control_suffix, predictor_stage, reuse_stage, round_suffix
from matwheel.flywheel.references import Reuse, encoder_predictor, latents_predictor
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import (
    CRYSTALS,
    PredictorRecipe,
    predict_crystals,
    repeated_rows,
    train_predictor,
    write_disagreement,
    write_filtered,
)
from matwheel.flywheel.trainers import BEST
from matwheel.models.checkpoints import load_weights
from matwheel.models.predictor import PropertyPredictor
from matwheel.predictors.predictor import Fitted, Fitting, Predictor

_ATTACHED = ("log", "log_dict", "_average_model")
"""What Lightning attaches to callbacks when a trainer starts."""


@dataclass(frozen=True)
class TurnSettings:
    """How every turn is made.

    Attributes:
        generation: How synthetic crystals are made.
        model: The predictor, untrained; it is copied before use.
        recipe: How predictors are trained.
        agreement: On which synthetic crystals the teachers must agree; None to ask for none.
        labeller: Labels synthetic crystals.
        pseudo_labeller: Labels real training crystals for the semi-supervised scenario.
        num_teachers: Predictors, trained under different seeds, whose mean teaches.
        synthetic_weight: Weight of a synthetic crystal in the predictor's loss.
        continue_generator: Whether generator and prior start from the weights of the round before.
        keep_crystals: Whether the synthetic crystals of the rounds before are used as well.
        last_arm: The arm that teaches the next round.
    """

    generation: GenerationSettings
    model: L.LightningModule
    recipe: PredictorRecipe
    agreement: LabelAgreement | None
    labeller: Labeller
    pseudo_labeller: Labeller
    num_teachers: int
    synthetic_weight: float
    continue_generator: bool
    keep_crystals: bool
    last_arm: ArmName


class Turn:
    """One round. Every part is made when it is first asked for, unless an earlier run finished it.

    Args:
        run: Runs the stages.
        scenario: The real crystals and the arms.
        settings: How.
        number: Of the round, from 1.
        previous: The round before; None for the first.
    """

    def __init__(
        self, run: Run, scenario: Scenario, settings: TurnSettings, number: int = 1, previous: Turn | None = None
    ) -> None:
        self.run = run
        self.scenario = scenario
        self.settings = settings
        self.number = number
        self.previous = previous
        self.suffix = round_suffix(number)
        self._real: dict[Labels | None, CrystalDataModule] = {}
        self._generations: dict[Labels, Generation] = {}
        self._synthetic: dict[Labels, LabelledCrystals] = {}
        self._trained: dict[tuple[ArmName, int], TrainedArm] = {}

    @cached_property
    def teachers(self) -> list[TrainedArm]:
        """Predictors that label: at first those trained on the labelled real crystals, then the last arm's."""
        turn, arm = (self, self.scenario.real_arm) if self.previous is None else (self.previous, self.settings.last_arm)
        return [turn.train(arm, member) for member in range(1, self.settings.num_teachers + 1)]

    @cached_property
    def fits(self) -> Fits:
        """Predictors beside the trainer's own model."""
        return Fits(self)

    @cached_property
    def pseudo_labels(self) -> FloatArray:
        """A label from the teachers for every real training crystal."""
        crystals = self.scenario.known.table.take(self.scenario.train_rows)
        inputs = {"crystals": crystals.fingerprint()}
        return read_labels(self._label("pseudo-labels", self.settings.pseudo_labeller, crystals, inputs).folder)

    @cached_property
    def disagreement(self) -> StageResult:
        """How far the teachers differ on real crystals that nobody labelled for them, those of the test set apart."""
        known = self.scenario.known
        crystals = known.table.take(np.concatenate([self.scenario.unlabelled_rows, known.val_rows]))

        def teach(folder: Path, teacher: Teacher) -> dict[str, float]:
            members = teacher.members(crystals)
            return write_disagreement(folder, crystals.ids, members) if self.run.is_first else {}

        return self._taught("disagreement", teach, {}, {"crystals": crystals.fingerprint()}, self.teachers)

    def real(self, labels: Labels | None) -> CrystalDataModule:
        """Real training crystals under one kind of labels."""
        if labels not in self._real:
            self._real[labels] = self.scenario.real(labels, lambda: self.pseudo_labels)
        return self._real[labels]

    def generation(self, labels: Labels) -> Generation:
        """The generator trained on real crystals under one kind of labels, and its crystals."""
        if labels not in self._generations:
            self._generations[labels] = self._generation(labels)
        return self._generations[labels]

    def _generation(self, labels: Labels) -> Generation:
        settings = self.settings.generation
        before = self.previous.generation(labels) if self.previous is not None else None
        kept = before if self.settings.keep_crystals else None
        start = before if self.settings.continue_generator and isinstance(before, LearnedGeneration) else None
        data, suffix = self.real(labels), control_suffix(labels) + self.suffix
        if isinstance(settings.source, GeneratorRecipe):
            asked = self.disagreement if settings.source.conditions.asks_teachers else None
            return LearnedGeneration(settings.source, self.run, settings, data, self.number, suffix, start, kept, asked)
        return DerivedGeneration(settings.source, self.run, settings, data, self.number, suffix, kept)

    def synthetic(self, labels: Labels) -> LabelledCrystals:
        """The crystals of a generator with their labels."""
        if labels not in self._synthetic:
            generation, agreement = self.generation(labels), self.settings.agreement
            table, crystals = generation.table, generation.crystals
            if agreement is not None:
                crystals = self._agree(f"agreement{control_suffix(labels)}", agreement, table, crystals.key)
                table = CrystalTable.load(crystals.folder / CRYSTALS)
            inputs = {"crystals": crystals.key}
            stage = self._label(f"labels{control_suffix(labels)}", self.settings.labeller, table, inputs)
            table = table.with_properties(**{self.scenario.known.target: read_labels(stage.folder)})
            self._synthetic[labels] = LabelledCrystals(table, stage.key)
        return self._synthetic[labels]

    def reuse(self, kind: Reuse) -> StageResult:
        """A predictor of the labelled real crystals that takes something from the scenario's generator."""
        generation, known = self.generation(self.scenario.generator_labels), self.scenario.known
        model = self.settings.model
        assert isinstance(generation, LearnedGeneration)
        assert isinstance(model, PropertyPredictor)
        recipe = generation.recipe
        name, inputs = reuse_stage(kind, self.suffix), {"data": self.scenario.known_key}

        def from_latents(folder: Path, seed: int) -> dict[str, float]:
            prior = copy.deepcopy(recipe.prior)
            load_weights(prior, generation.prior.folder / BEST)
            predictor = latents_predictor(prior.to(self.run.trainers.device), known)
            context = Fitting(seed, folder, self.run.trainers)
            return evaluate(predictor, fit(predictor, known, context), known, folder)

        def from_encoder(folder: Path, seed: int) -> dict[str, float]:
            predictor = encoder_predictor(model, recipe.generator, generation.generator.folder / BEST)
            return train_predictor(predictor, known, self.settings.recipe, seed, folder, self.run.trainers)

        if kind == "latents":
            inputs["generator"] = generation.prior.key
            return self.run.stage(name, from_latents, {}, inputs, purpose="baseline", alone=True)
        inputs["generator"] = generation.generator.key
        return self.run.stage(name, from_encoder, self._config(known), inputs, purpose="predictor")

    def train(self, name: ArmName, member: int = 1) -> TrainedArm:
        """The predictor of an arm, or a further member of an ensemble of it."""
        if (name, member) not in self._trained:
            mixture = self.mixture(name, member)
            stage = self._fit(name, member, mixture)
            self._trained[name, member] = TrainedArm(stage, mixture.n_real, mixture.n_synthetic)
        return self._trained[name, member]

    def suffix_of(self, arm: ArmName) -> str:
        """Tells the stages of an arm from those of other rounds, where it differs between these."""
        return self.suffix if self.scenario.changes(arm) else ""

    def mixture(self, name: ArmName, member: int = 1) -> Mixture:
        """What an arm is trained on, and for a member of an ensemble, what weights it starts from."""
        arm, weight = self.scenario.arms[name], self.settings.synthetic_weight
        data = self.real(arm.real)
        inputs = {"data": data_fingerprint(data)}
        if arm.size_of is not None:
            size = self._size(arm.size_of)
            rows = repeated_rows(data.train_rows, size, self.run.seed_for("repeated rows"))
            return Mixture(data.with_training(rows), size, 0, {"size": size}, inputs)
        if arm.start is not None:
            start = self.train(arm.start, member)
            inputs["start"] = start.stage.key
            return Mixture(data, len(data.train_rows), start.n_synthetic, {}, inputs, start.checkpoint)
        if arm.generator is not None:
            synthetic = self.synthetic(arm.generator)
            inputs["synthetic"] = synthetic.key
            mixed = data.with_training(data.train_rows, synthetic.table, weight)
            return Mixture(mixed, len(data.train_rows), len(synthetic.table), {"weight": weight}, inputs)
        return Mixture(data, len(data.train_rows), 0, {}, inputs)

    def _size(self, name: ArmName) -> int:
        """Crystals that an arm is trained on."""
        arm = self.scenario.arms[name]
        n_synthetic = len(self.synthetic(arm.generator).table) if arm.generator is not None else 0
        return len(self.real(arm.real).train_rows) + n_synthetic

    def _fit(self, name: ArmName, member: int, mixture: Mixture) -> StageResult:
        settings, suffix = self.settings, self.suffix_of(name)
        config = {**self._config(mixture.data), **mixture.config}

        def work(folder: Path, seed: int) -> dict[str, float]:
            model = copy.deepcopy(settings.model)
            if mixture.start is not None:
                load_weights(model, mixture.start)
            return train_predictor(model, mixture.data, settings.recipe, seed, folder, self.run.trainers)

        stage, purpose = predictor_stage(name, suffix), "predictor"
        if member > 1:
            stage, purpose = f"{stage}-teacher-{member}", f"predictor teacher {member}"
        return self.run.stage(stage, work, config, mixture.inputs, purpose)

    def _config(self, data: CrystalDataModule) -> dict[str, Json]:
        """Settings that every trained predictor depends on."""
        return {
            "model": describe(self.settings.model),
            "recipe": describe(self.settings.recipe, skip=_ATTACHED),
            "batch_size": data.batch_size,
        }

    def _label(self, name: str, labeller: Labeller, crystals: CrystalTable, inputs: dict[str, str]) -> StageResult:
        def teach(folder: Path, teacher: Teacher) -> dict[str, float]:
            labels = labeller.label(crystals, teacher)
            return write_labels(folder, crystals, labels) if self.run.is_first else {}

        teachers = self.teachers if labeller.uses_predictor else []
        return self._taught(name, teach, describe(labeller), inputs, teachers, labeller.predictors)

    def _agree(self, name: str, agreement: LabelAgreement, crystals: CrystalTable, key: str) -> StageResult:
        def teach(folder: Path, teacher: Teacher) -> dict[str, float]:
            result = agreement.apply(crystals, teacher)
            result.require_any()
            return write_filtered(folder, result) if self.run.is_first else {}

        return self._taught(name, teach, describe(agreement), {"crystals": key}, self.teachers)

    def _taught(
        self,
        name: str,
        teach: Callable[[Path, Teacher], dict[str, float]],
        config: Json,
        inputs: dict[str, str],
        teachers: list[TrainedArm],
        predictors: Sequence[Predictor] = (),
    ) -> StageResult:
        """A stage that asks teachers or predictors; the first process writes.

        Where networks are asked all processes predict everything together, else the first one works without the others.
        """
        known = self.scenario.known
        together = bool(teachers) or any(predictor.distributed for predictor in predictors)

        def fitted(predictor: Predictor) -> Fitted:
            return self.fits.fitted(predictor, self.scenario.real_arm)

        def work(folder: Path, seed: int) -> dict[str, float]:
            if not (together or self.run.is_first):
                return {}

            def members(crystals: CrystalTable) -> FloatArray:
                model, checkpoints = copy.deepcopy(self.settings.model), [t.checkpoint for t in teachers]
                return predict_crystals(model, checkpoints, known, crystals, self.run.trainers)

            return teach(folder, Teacher(known.target, known.training_table, members, fitted, seed))

        inputs = {
            **inputs,
            "data": self.scenario.known_key,
            **{f"teacher {member}": teacher.stage.key for member, teacher in enumerate(teachers, 1)},
            **{f"predictor {p.name}": self.fits.stage(p, self.scenario.real_arm).key for p in predictors},
        }
        return self.run.stage(f"{name}{self.suffix}", work, config, inputs, purpose=name)
