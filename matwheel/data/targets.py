"""The target transform: the one place where a property is brought to a scale that networks learn well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

TransformKind = Literal["none", "standardise", "log", "log1p"]
ScaleKind = Literal["standardise", "log", "log1p"]
"""Those that have no unit."""
_FITTED = ("shift", "mean", "std", "lowest", "highest")
_EDGE = 1e-6  # of the geometric mean of what the logarithm is taken of
_EQUAL = 1e-8  # spread of equal values, relative to them


class TargetTransform(nn.Module):
    """Invertible map between a property in the user's units and a variable of zero mean and unit variance.

    It is fitted on the training split only and lives in the checkpoint (buffers). `log` is `log(y + shift)`; the shift
    is zero where all training values exceed a tenth of their median, and otherwise lifts the smallest one there, so
    that values near zero do not become outliers. Where some are negative it lifts the smallest one to its median
    distance from the others: the logarithm is a mild one then. The shift does not depend on the unit.

    Predictions of a logarithm end one standard deviation above the largest training value: the exponential turns what a
    network extrapolates for a single odd crystal into an error that outweighs all others. They end as far below the
    smallest one, and at zero where no training value is negative.

    Args:
        kind: `none`, `standardise`, `log` (then standardised) or `log1p` (then standardised; unit-dependent).
    """

    shift: Tensor
    mean: Tensor
    std: Tensor
    lowest: Tensor
    highest: Tensor
    fitted: Tensor

    def __init__(self, kind: TransformKind = "log") -> None:
        super().__init__()
        if kind not in ("none", "standardise", "log", "log1p"):
            raise ValueError(f"unknown target transform {kind!r}: choose none, standardise, log or log1p")
        self.kind = kind
        self.register_buffer("shift", torch.tensor(1.0 if kind == "log1p" else 0.0, dtype=torch.float64))
        self.register_buffer("mean", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("lowest", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("highest", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, values: Tensor) -> None:
        """Fit shift, mean and standard deviation.

        Args:
            values: [n], training values in the user's units; NaN are ignored.

        Raises:
            ValueError: If no finite value is left, or `log1p` meets a value of -1 or less.
        """
        values = values.double()
        values = values[torch.isfinite(values)]
        if len(values) == 0:
            raise ValueError("the training split has no finite target value to fit the target transform on")
        if self.kind == "log1p" and bool((values <= -1).any()):
            raise ValueError(
                f"target value {float(values.min()):g} has no log1p: use the transform 'log' or 'standardise'"
            )
        if self.kind == "log":
            lifted = 0.1 if values.min() >= 0 else 1.0
            self.shift.copy_((lifted * _scale(values) - values.min()).clamp_min(0))
        if self.kind != "none":
            raw = torch.log(values + self.shift) if self.kind in ("log", "log1p") else values
            self.mean.copy_(raw.mean())
            smallest = _EQUAL * raw.abs().max() if bool(raw.any()) else 1.0  # equal values, but for rounding
            self.std.copy_(raw.std(correction=0).clamp_min(smallest))
            if self.kind in ("log", "log1p"):
                self.lowest.copy_(torch.exp(raw.min() - self.std) - self.shift)
                if values.min() >= 0:
                    self.lowest.clamp_(min=0)
                self.highest.copy_(torch.exp(raw.max() + self.std) - self.shift)
        self.fitted.fill_(True)

    def _raw(self, values: Tensor) -> Tensor:
        if self.kind in ("log", "log1p"):
            # A value below every training value by more than the shift is brought to the edge of the logarithm.
            return torch.log((values + self.shift).clamp_min(_EDGE * self.mean.exp()))
        return values

    def forward(self, values: Tensor) -> Tensor:
        """User's units to standardised scale, same shape and dtype."""
        return ((self._raw(values.double()) - self.mean) / self.std).to(values.dtype)

    def inverse(self, scaled: Tensor) -> Tensor:
        """Standardised scale to the user's units, same shape and dtype."""
        raw = scaled.double() * self.std + self.mean
        if self.kind in ("log", "log1p"):
            raw = torch.exp(raw) - self.shift
        return raw.to(scaled.dtype)

    def prediction(self, scaled: Tensor) -> Tensor:
        """The inverse of what a model says, for `log` and `log1p` bounded (see above)."""
        values = self.inverse(scaled)
        return (
            values.clamp(self.lowest.to(values), self.highest.to(values)) if self.kind in ("log", "log1p") else values
        )

    def numbers(self) -> dict[str, float]:
        """What was fitted, by name."""
        return {name: float(getattr(self, name)) for name in _FITTED}

    @classmethod
    def from_numbers(cls, kind: TransformKind, numbers: Mapping[str, float]) -> TargetTransform:
        """A fitted transform.

        Args:
            kind: Its kind.
            numbers: What `numbers` gave.
        """
        transform = cls(kind)
        for name in _FITTED:
            getattr(transform, name).fill_(numbers[name])
        transform.fitted.fill_(True)
        return transform

    def extra_repr(self) -> str:
        """The kind, for printed models."""
        return self.kind


def _scale(values: Tensor) -> Tensor:
    """The median of values [n], or of their distances from the smallest where that is not positive.

    Where half of them or more are the smallest, as the zeros of a band gap, only the others count.
    """
    above = values if values.min() > 0 else values - values.min()
    apart = above[above > _EDGE * above.max()]
    if len(apart) == 0:
        return values.abs().max().clamp_min(1.0)
    return above.median() if above.median() >= apart.min() else apart.median()


def check_scale(kind: str) -> None:
    """Accept a scale without unit, for what is measured in standard deviations.

    Raises:
        ValueError: If it is another one.
    """
    if kind not in get_args(ScaleKind):
        raise ValueError(f"the transform {kind!r} has a unit: choose one of {', '.join(get_args(ScaleKind))}")
