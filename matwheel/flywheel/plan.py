"""Which stages a wheel will run, so that a person can be told how far it is."""

from __future__ import annotations

from matwheel.flywheel.arms import ArmName, Labels
from matwheel.flywheel.generation import GeneratorRecipe
from matwheel.flywheel.labels import Labeller
from matwheel.flywheel.names import BASELINE, control_suffix, fitted_stage, predictor_stage, reuse_stage, round_suffix
from matwheel.flywheel.wheel import Wheel
from matwheel.predictors.predictor import Predictor


def planned_stages(wheel: Wheel) -> frozenset[str]:
    """Names of all stages, if the wheel turns as often as it may and no generator fails."""
    plan = _Plan(wheel)
    for number in range(1, wheel.rounds + 1):
        plan.add_round(number)
    return frozenset({BASELINE.format(kind) for kind in wheel.baselines} | plan.names)


class _Plan:
    """Goes the way of `Turn` from a stage to those it needs, without running any."""

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self.scenario = wheel.scenario
        self.settings = wheel.settings
        self.names: set[str] = set()

    def add_round(self, number: int) -> None:
        wheel, suffix = self.wheel, round_suffix(number)
        for kind in wheel.reuse:
            parts = {"generator", "prior"} if kind == "latents" else {"generator"}
            self._generation(self.scenario.generator_labels, number, parts)
            self.names.add(reuse_stage(kind, suffix))
        for arm in wheel.arms:
            if number == 1 or self.scenario.changes(arm):
                self._train(arm, number)
                if self.scenario.arms[arm].start is None:
                    for predictor in wheel.predictors:
                        self._fit(predictor, arm, number)
        if wheel.source is not None:
            self._synthetic(wheel.source, number)
            self.names |= {"statistics-real", f"statistics{suffix}"}

    def _train(self, name: ArmName, number: int, member: int = 1) -> None:
        arm = self.scenario.arms[name]
        suffix = round_suffix(number) if self.scenario.changes(name) else ""
        self._real(arm.real, number)
        if arm.size_of is not None:
            other = self.scenario.arms[arm.size_of]
            self._real(other.real, number)
            if other.generator is not None:
                self._synthetic(other.generator, number)
        if arm.start is not None:
            self._train(arm.start, number, member)
        if arm.generator is not None:
            self._synthetic(arm.generator, number)
        self.names.add(predictor_stage(name, suffix) + (f"-teacher-{member}" if member > 1 else ""))

    def _fit(self, predictor: Predictor, name: ArmName, number: int) -> None:
        for part in predictor.parts:
            self._fit(part, name, number)
        for member in range(1, predictor.num_members + 1):
            self._train(name, number, member)
        suffix = round_suffix(number) if self.scenario.changes(name) else ""
        self.names.add(fitted_stage(name, predictor.name, suffix))

    def _real(self, labels: Labels | None, number: int) -> None:
        if labels in ("pseudo", "completed"):
            self._label("pseudo-labels", number, self.settings.pseudo_labeller)

    def _generation(self, labels: Labels, number: int, parts: set[str]) -> None:
        self._real(labels, number)
        source = self.settings.generation.source
        if isinstance(source, GeneratorRecipe):
            if source.pretraining is not None:
                self.names.add("pretraining")
            if source.conditions.asks_teachers:
                self._taught("disagreement", number, True)
        self.names |= {f"{part}{control_suffix(labels)}{round_suffix(number)}" for part in parts}

    def _synthetic(self, labels: Labels, number: int) -> None:
        learns = isinstance(self.settings.generation.source, GeneratorRecipe)
        learned = {"generator", "prior", "conditions"} if learns else set()
        self._generation(labels, number, {"samples", "crystals"} | learned)
        if self.settings.agreement is not None:
            self._taught(f"agreement{control_suffix(labels)}", number, True)
        self._label(f"labels{control_suffix(labels)}", number, self.settings.labeller)

    def _label(self, name: str, number: int, labeller: Labeller) -> None:
        for predictor in labeller.predictors:
            self._fit(predictor, self.scenario.real_arm, number)
        self._taught(name, number, labeller.uses_predictor)

    def _taught(self, name: str, number: int, asks: bool) -> None:
        if asks:
            arm = self.scenario.real_arm if number == 1 else self.settings.last_arm
            for member in range(1, self.settings.num_teachers + 1):
                self._train(arm, max(number - 1, 1), member)
        self.names.add(name + round_suffix(number))
