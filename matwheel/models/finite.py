"""Losses that are not finite are reported with the term, the batch and the crystals."""

from __future__ import annotations

from collections.abc import Mapping

import lightning as L
import torch
from torch import Tensor

from matwheel.models.checkpoints import not_finite

_SHOWN = 5  # ids in a message


def check_finite(model: L.LightningModule, terms: Mapping[str, Tensor], row: Tensor) -> None:
    """Stop when a loss is not finite.

    Args:
        model: Is being trained or evaluated.
        terms: Terms of the loss, each [B], per crystal.
        row: [B], rows of the data module's table.

    Raises:
        FloatingPointError: Names the first such term, the batch and the crystals. If weights are not finite either, it
            was an earlier step that broke them, and the message says so.
    """
    if bool(torch.isfinite(torch.stack(list(terms.values()))).all()):
        return
    name, term = next((name, term) for name, term in terms.items() if not bool(torch.isfinite(term).all()))
    crystals = _names(model, row[~torch.isfinite(term)])
    report = f"the {name} term of the loss is not finite in {_place(model.trainer)} for {crystals}"
    weights = not_finite(dict(model.named_parameters()))
    if weights:
        cause = f"the step before broke the weights ({weights[0]}, ...): lower the learning rate or clip gradients"
    else:
        cause = "look at these crystals, or lower the learning rate or clip gradients"
    raise FloatingPointError(f"{report}: {cause}. Checkpoints written before are kept")


def _place(trainer: L.Trainer) -> str:
    epoch = f"epoch {trainer.current_epoch}"
    return f"batch {trainer.fit_loop.batch_idx} of {epoch}" if trainer.training else f"the evaluation after {epoch}"


def _names(model: L.LightningModule, row: Tensor) -> str:
    data = model.trainer.datamodule  # type: ignore[attr-defined]
    if data is None:
        return f"rows {row.tolist()}"
    names = data.ids(row)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"crystals {', '.join(names[:_SHOWN])}{more}"
