"""The two scenarios and their arms: which labels are known, and what each predictor is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from matwheel.data.crystal import FloatArray, IntArray
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.fingerprint import data_fingerprint

Labels = Literal["known", "pseudo", "completed", "true"]
"""Labels of real training crystals.

- `known`: only the labelled crystals, with their labels.
- `pseudo`: all crystals, each with the label that a teacher gives it.
- `completed`: all crystals, with the known label where there is one, else the teacher's.
- `true`: all crystals with their own labels, known or not; for a control.
"""
ScenarioName = Literal["full", "semi"]
ArmName = Literal[
    "F", "F x k", "G_F", "F+G_F", "G_F then F", "S", "S+P", "S x k", "G_S", "S+G_true", "S+G_S", "G_S then S"
]


@dataclass(frozen=True)
class Arm:
    """What a predictor is trained on.

    Attributes:
        real: Real training crystals by their labels; None for none.
        generator: Labels that the generator of the synthetic crystals was trained on; None for no synthetic crystals.
        size_of: Arm to whose number of crystals the real ones are repeated.
        start: Arm whose trained weights the training starts from.
    """

    real: Labels | None
    generator: Labels | None = None
    size_of: ArmName | None = None
    start: ArmName | None = None


ARMS: dict[ScenarioName, dict[ArmName, Arm]] = {
    "full": {
        "F": Arm("known"),
        "F x k": Arm("known", size_of="F+G_F"),
        "G_F": Arm(None, generator="known"),
        "G_F then F": Arm("known", start="G_F"),
        "F+G_F": Arm("known", generator="known"),
    },
    "semi": {
        "S": Arm("known"),
        "S+P": Arm("completed"),
        "S x k": Arm("known", size_of="S+G_S"),
        "G_S": Arm(None, generator="pseudo"),
        "G_S then S": Arm("known", start="G_S"),
        "S+G_true": Arm("known", generator="true"),
        "S+G_S": Arm("known", generator="pseudo"),
    },
}
REAL_ARM: dict[ScenarioName, ArmName] = {"full": "F", "semi": "S"}
"""The arms without a wheel: the first teachers."""
DEFAULT_ARMS: dict[ScenarioName, tuple[ArmName, ...]] = {
    "full": ("F", "F x k", "G_F", "F+G_F"),
    "semi": ("S", "S+P", "S x k", "G_S", "S+G_true", "S+G_S"),
}


class Roles(NamedTuple):
    """The arms that answer the question.

    Attributes:
        real: Real crystals alone.
        mixed: Real and synthetic crystals.
        control: Real crystals repeated to the size of `mixed`.
        synthetic: Synthetic crystals alone.
    """

    real: str
    mixed: str
    control: str
    synthetic: str


def roles_of(scenario: ScenarioName) -> Roles:
    """The arms of a scenario by role."""
    arms = ARMS[scenario]
    control, mixed = next((name, arm.size_of) for name, arm in arms.items() if arm.size_of is not None)
    synthetic = next(name for name, arm in arms.items() if arm == Arm(None, generator=arms[mixed].generator))
    return Roles(REAL_ARM[scenario], mixed, control, synthetic)


class Scenario:
    """What is known of the training crystals, and the arms that can be compared.

    The scenario is `semi` where training crystals are without a label, else `full`. Labels that the split hides are
    removed here: only `real("true", ...)` brings them back, and there is no such arm where nobody has them.

    Args:
        data: Real crystals with all labels; left as they are.
    """

    def __init__(self, data: CrystalDataModule) -> None:
        if data.split_rows is None or not len(data.val_rows) or not len(data.test_rows):
            raise ValueError("the wheel compares arms on validation and test rows: the split must have both")
        self._data = data
        self.train_rows: IntArray = data.split_rows.train
        self.unlabelled_rows: IntArray = np.setdiff1d(self.train_rows, data.split_rows.labelled)
        self.name: ScenarioName = "semi" if len(self.unlabelled_rows) else "full"
        has_all_labels = not np.isnan(data.table.properties[data.target][self.train_rows]).any()
        self.arms = {name: arm for name, arm in ARMS[self.name].items() if has_all_labels or arm.generator != "true"}
        self.default_arms = tuple(name for name in DEFAULT_ARMS[self.name] if name in self.arms)
        self.real_arm = REAL_ARM[self.name]
        self.generator_labels: Labels = "pseudo" if self.name == "semi" else "known"
        """What the generator is trained on, the control's apart."""
        self.known = data.with_targets(self.unlabelled_rows, np.full(len(self.unlabelled_rows), np.nan))
        """Real crystals with the known labels, trained on where labelled."""
        self.known_key = data_fingerprint(self.known)
        """Identity of `known`."""

    def check(self, name: ArmName) -> None:
        """Accept the name of an arm of this scenario.

        Raises:
            ValueError: If it belongs to the other one, or needs labels that nobody has.
        """
        if name in self.arms:
            return
        total, hidden = len(self.train_rows), len(self.unlabelled_rows)
        if name in ARMS[self.name]:
            mend = "; it needs the labels of all"
        elif name in ARMS["semi"]:
            mend = "; labelled_fraction below 1 hides labels, use_unlabelled takes crystals without one"
        else:
            mend = ""
        raise ValueError(
            f"there is no arm {name!r} where {total - hidden} of {total} training crystals have a label: choose from "
            f"{', '.join(map(repr, self.arms))}{mend}"
        )

    def real(self, labels: Labels | None, pseudo_labels: Callable[[], FloatArray]) -> CrystalDataModule:
        """Real crystals under one kind of labels.

        Args:
            labels: The kind; None for no training crystal.
            pseudo_labels: Gives a label for each of `train_rows`, if they are needed.
        """
        match labels:
            case None:
                return self.known.with_training(np.zeros(0, dtype=np.int64))
            case "known":
                return self.known
            case "true":
                return self._data.with_training(self.train_rows)
            case "pseudo":
                return self.known.with_targets(self.train_rows, pseudo_labels()).with_training(self.train_rows)
            case "completed":
                missing = np.isin(self.train_rows, self.unlabelled_rows)
                completed = self.known.with_targets(self.train_rows[missing], pseudo_labels()[missing])
                return completed.with_training(self.train_rows)

    def source(self, name: ArmName) -> Labels | None:
        """Labels behind the synthetic crystals that an arm is trained on, now or before; None without any."""
        arm = self.arms[name]
        return arm.generator if arm.start is None else self.source(arm.start)

    def depends_on(self, name: ArmName) -> Labels | None:
        """Labels behind the synthetic crystals without which an arm cannot be trained; None if it needs none."""
        arm = self.arms[name]
        other = arm.start if arm.size_of is None else arm.size_of
        return arm.generator if other is None else self.depends_on(other)

    def needs_a_turn(self, name: ArmName) -> bool:
        """Whether an arm cannot be trained on the labelled crystals alone."""
        return self.arms[name] != Arm("known")

    def changes(self, name: ArmName) -> bool:
        """Whether what an arm is trained on differs between rounds."""
        return self.needs_a_turn(name) and self.arms[name].generator != "true"
