"""Embedding of the conditions a crystal is generated under: any number of scalars and classes at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matwheel.data.targets import TargetTransform, TransformKind
from matwheel.nn.mlp import mlp

log = logging.getLogger(__name__)

ConditionKind = Literal["none", "standardise", "log", "log1p", "class"]
"""How a condition is read: a scalar under one of the target transforms, or a class."""


_ABSENT = -1
"""In place of a class that is not given."""
_MARGIN = 0.1
"""Of a grid beyond the training values, of their range."""


class EncodedConditions(NamedTuple):
    """Conditions on the scale of networks.

    Attributes:
        scalars: [B, S], transformed, with zero mean and unit variance over the training set; NaN where not given.
        classes: [B, K] int64, position among the classes found in training; -1 where not given.
    """

    scalars: Float[Tensor, "crystals scalars"]
    classes: Int[Tensor, "crystals class_conditions"]


class _ScalarCondition(nn.Module):
    """A scalar on a grid of Gaussians that spans its training values."""

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, kind: TransformKind, num_points: int, dim: int) -> None:
        super().__init__()
        self.transform = TargetTransform(kind)
        # Ends of the grid, and the training values' mean and spread, all transformed.
        self.register_buffer("low", torch.tensor(-1.0))
        self.register_buffer("high", torch.tensor(1.0))
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))
        self.num_points = num_points
        self.absent = nn.Parameter(torch.zeros(dim))
        self.net = mlp(num_points, dim, 3, dim)
        self._warned = False

    def fit(self, name: str, values: Tensor) -> None:
        values = values.double()
        self.transform.fit(values)
        scaled = self.transform(values)
        # Of more than a thousand, the outermost thousandths are trimmed, so that single outliers do not stretch the
        # grid; the margin gives room for conditions a little beyond.
        low = torch.quantile(scaled, 0.001, interpolation="lower")
        high = torch.quantile(scaled, 0.999, interpolation="higher")
        margin = (_MARGIN * (high - low)).clamp_min(1e-3)
        self.low.copy_(low - margin)
        self.high.copy_(high + margin)
        self.mean.copy_(scaled.mean())
        self.std.copy_(scaled.std(correction=0).clamp_min(1e-6))

    def encode(self, name: str, values: Tensor, requested: bool) -> Tensor:
        scaled = self.transform(values)
        lowest, highest = self._trained_on()
        outside = (scaled < lowest) | (scaled > highest)
        if requested and bool(outside.any()):
            self._warn(name, values[outside][(scaled[outside] - (self.low + self.high) / 2).abs().argmax()])
        encoded: Tensor = (scaled.clamp(self.low, self.high) - self.mean) / self.std
        return encoded

    def _warn(self, name: str, worst: Tensor) -> None:
        if not self._warned:
            self._warned = True
            ends = torch.stack([*self._trained_on(), self.low, self.high])
            lowest, highest, low, high = self.transform.inverse(ends).tolist()
            log.warning(
                "condition %r = %g lies outside the range %.4g to %.4g that the model was trained on; it counts as no "
                "less than %.4g and no more than %.4g (said once)",
                *(name, float(worst), lowest, highest, low, high),
            )

    def _trained_on(self) -> tuple[Tensor, Tensor]:
        """Ends of the training values, but for rounding: those of the grid without the margin."""
        margin = 0.999 * _MARGIN / (1 + 2 * _MARGIN) * (self.high - self.low)
        return self.low + margin, self.high - margin

    def forward(self, encoded: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, self.num_points, device=encoded.device)
        position = (encoded.nan_to_num() * self.std + self.mean - self.low) / (self.high - self.low)
        distance = (position[:, None] - grid) * (self.num_points - 1)
        absent = encoded.isnan()[:, None]
        return torch.where(absent, self.absent, self.net(torch.exp(-0.5 * distance**2)))


_NO_CLASS = torch.finfo(torch.float32).max
"""Sorts behind all classes; finite, so that averages of checkpoints keep it."""


class _ClassCondition(nn.Module):
    """A class among those found in training."""

    classes: Tensor

    def __init__(self, max_classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("classes", torch.full((max_classes,), _NO_CLASS))
        self.embedding = nn.Embedding(max_classes, dim)
        self.absent = nn.Parameter(torch.zeros(dim))

    def fit(self, name: str, values: Tensor) -> None:
        found = torch.unique(values.to(self.classes.dtype))
        if len(found) > len(self.classes):
            raise ValueError(
                f"condition {name!r} has {len(found)} classes: raise max_classes (now {len(self.classes)}), or "
                "treat it as a scalar"
            )
        self.classes.fill_(_NO_CLASS)
        self.classes[: len(found)] = found

    def encode(self, name: str, values: Tensor, requested: bool) -> Tensor:
        values = values.to(self.classes.dtype)
        position = torch.searchsorted(self.classes, values.contiguous()).clamp(max=len(self.classes) - 1)
        is_known = self.classes[position] == values
        unknown = ~is_known & ~values.isnan()
        if requested and bool(unknown.any()):
            known = ", ".join(f"{value:g}" for value in self.classes[self.classes < _NO_CLASS].tolist())
            raise ValueError(
                f"condition {name!r} has no class {float(values[unknown][0]):g}; classes found in training: {known}"
            )
        return position.masked_fill(~is_known, _ABSENT)

    def forward(self, position: Tensor) -> Tensor:
        absent = (position < 0)[:, None]
        return torch.where(absent, self.absent, self.embedding(position.clamp_min(0)))


class ConditionEmbedding(nn.Module):
    """Vector that tells networks under which conditions to generate.

    A scalar is brought to the scale of its `TargetTransform`, expanded in Gaussians on a grid that spans the training
    values, and passed through a perceptron; a class is looked up. All together pass through another perceptron.
    A warning names scalars beyond the training values; those off the grid are moved to its nearest end.

    With `dropout`, a learned vector stands for a condition that is not given (NaN): that is how a generator learns from
    crystals without labels, and what guidance needs (Ho & Salimans, arXiv 2207.12598). Without, a missing condition is
    an error. Nothing is ever put in its place.

    Args:
        kinds: How each condition is read, by name: `none`, `standardise`, `log` or `log1p` for scalars, `class` for
            classes (numbers). By default there is one scalar under `log`, and it takes its name from the data.
        num_points: Points of a scalar's grid.
        feature_dim: Width of each condition's own embedding.
        out_dim: Width of the result.
        max_classes: Room for so many classes per class condition.
        dropout: Fraction of the crystals whose conditions are hidden in training, all of a crystal's together.
    """

    def __init__(
        self,
        kinds: dict[str, ConditionKind] | None = None,
        num_points: int = 32,
        feature_dim: int = 64,
        out_dim: int = 128,
        max_classes: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is the fraction of crystals without conditions, in [0, 1), not {dropout}")
        if kinds is not None and not kinds:
            raise ValueError("a conditional generator needs at least one condition")
        self.kinds: Mapping[str, ConditionKind] | None = kinds
        self.num_points = num_points
        self.feature_dim = feature_dim
        self.out_dim = out_dim
        self.max_classes = max_classes
        self.dropout = dropout
        self.names: list[str] = list(kinds) if kinds is not None else []
        listed: list[ConditionKind] = list(kinds.values()) if kinds is not None else ["log"]
        self.is_class = [kind == "class" for kind in listed]
        self.parts = nn.ModuleList(
            _ClassCondition(max_classes, feature_dim)
            if kind == "class"
            else _ScalarCondition(kind, num_points, feature_dim)
            for kind in listed
        )
        self.mix = mlp(feature_dim * len(listed), out_dim, 2, out_dim)

    @property
    def num_scalars(self) -> int:
        """Scalar conditions."""
        return self.is_class.count(False)

    @property
    def num_class_conditions(self) -> int:
        """Class conditions."""
        return self.is_class.count(True)

    def unfitted_copy(self) -> ConditionEmbedding:
        """A new embedding of the same conditions with its own weights."""
        kinds = None if self.kinds is None else dict(self.kinds)
        return ConditionEmbedding(
            kinds, self.num_points, self.feature_dim, self.out_dim, self.max_classes, self.dropout
        )

    def fit(self, names: Sequence[str], values: Float[Tensor, "n conditions"]) -> None:
        """Fit transforms, grids and classes on the training set; a condition without any value stays as it was.

        Args:
            names: The conditions, in the order of the columns.
            values: [n, C], user's units; NaN where not known, which needs `dropout`.

        Raises:
            ValueError: If the names are not the conditions this embedding was made for, or a value is missing or
                infinite.
        """
        if self.kinds is None and len(names) != 1:
            raise ValueError(
                f"the data have the conditions {list(names)}: say how each is read, in a flywheel with "
                "--trainer.callbacks.generator.condition_embedding.kinds "
                f"'{{{', '.join(f'{name}: log' for name in names)}}}'"
            )
        if self.kinds is not None and list(names) != list(self.kinds):
            raise ValueError(
                f"the generator is made for the conditions {list(self.kinds)}, the data have {list(names)}: name the "
                "same ones in the same order"
            )
        self.names = list(names)
        values = values.to(next(self.parameters()).device)
        for name, part, column in zip(self.names, self._parts(), values.unbind(1), strict=True):
            self._check(name, column)
            known = column[~column.isnan()]
            if len(known):
                part.fit(name, known)

    def encode(self, conditions: Float[Tensor, "crystals conditions"], requested: bool = True) -> EncodedConditions:
        """Bring conditions to the scale of networks.

        Args:
            conditions: [B, C], user's units, columns as in `names`; NaN where not given, which needs `dropout`.
            requested: These are what crystals are wanted with: a class not seen in training is an error, and a scalar
                outside its grid is warned about. If not, they are those of crystals: such a class is not given.

        Raises:
            ValueError: If a value is missing or infinite, or is an unknown class.
        """
        if conditions.ndim != 2 or conditions.shape[1] != len(self.parts):
            raise ValueError(
                f"expected a column for each of the conditions {self.names}, got {tuple(conditions.shape)}"
            )
        scalars = [conditions.new_zeros(len(conditions), 0)]
        classes = [torch.zeros(len(conditions), 0, dtype=torch.long, device=conditions.device)]
        for name, part, column in zip(self.names, self._parts(), conditions.unbind(1), strict=True):
            self._check(name, column)
            if isinstance(part, _ClassCondition):
                classes.append(part.encode(name, column, requested)[:, None])
            else:
                scalars.append(part.encode(name, column, requested)[:, None])
        return EncodedConditions(torch.cat(scalars, 1), torch.cat(classes, 1))

    def hide(self, encoded: EncodedConditions, chance: Float[Tensor, " crystals"] | None = None) -> EncodedConditions:
        """In training, hide the conditions of a fraction `dropout` of the crystals, all of a crystal's together.

        Args:
            encoded: Conditions of B crystals.
            chance: Uniform in (0, 1): those of crystals with less than `dropout` are hidden. Drawn if not given.
        """
        if not (self.training and self.dropout):
            return encoded
        chance = chance if chance is not None else torch.rand(len(encoded.scalars), device=encoded.scalars.device)
        hidden = (chance < self.dropout)[:, None]
        return EncodedConditions(
            encoded.scalars.masked_fill(hidden, torch.nan), encoded.classes.masked_fill(hidden, _ABSENT)
        )

    def forward(self, encoded: EncodedConditions) -> Float[Tensor, "crystals out"]:
        """Embed encoded conditions."""
        columns = {False: iter(encoded.scalars.unbind(1)), True: iter(encoded.classes.unbind(1))}
        parts = zip(self.parts, self.is_class, strict=True)
        return cast(Tensor, self.mix(torch.cat([part(next(columns[is_class])) for part, is_class in parts], 1)))

    def _check(self, name: str, values: Tensor) -> None:
        allowed = ~values.isinf() if self.dropout else values.isfinite()
        if not bool(allowed.all()):
            raise ValueError(
                f"condition {name!r} is missing (not a finite number): give every crystal a value for it, or train "
                "with the condition embedding's dropout above 0 and leave it out as NaN"
            )

    def _parts(self) -> list[_ScalarCondition | _ClassCondition]:
        return cast(list[_ScalarCondition | _ClassCondition], list(self.parts))

    def get_extra_state(self) -> list[str]:
        """Names of the conditions, for the checkpoint."""
        return self.names

    def set_extra_state(self, state: list[str]) -> None:
        """Names of the conditions, from the checkpoint."""
        self.names = state
