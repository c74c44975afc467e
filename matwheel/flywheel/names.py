"""Names of stages that more than one module must know: whoever writes a stage and whoever reads its folder."""

from __future__ import annotations

BASELINE = "baseline-{}"
"""Stage of a baseline, by kind."""


def round_suffix(number: int) -> str:
    """Tells the stages of later rounds from those of the first, and from those that need no round (0)."""
    return "" if number <= 1 else f"-round-{number}"


def control_suffix(labels: str) -> str:
    """Tells the stages of the control's generator, trained on true labels, from those of the scenario's own."""
    return "-true" if labels == "true" else ""


def predictor_stage(arm: str, suffix: str = "") -> str:
    """Stage that trains and tests the predictor of an arm."""
    return f"predictor-{arm.replace(' ', '_')}{suffix}"


def fitted_stage(arm: str, predictor: str, suffix: str = "") -> str:
    """Stage that fits and tests a predictor beside the trainer's own model on what an arm is trained on."""
    return f"{predictor_stage(arm, suffix)}-by-{predictor.replace(' ', '_')}"


def reuse_stage(kind: str, suffix: str = "") -> str:
    """Stage of a predictor that takes something from a generator."""
    return f"reuse-{kind}{suffix}"
