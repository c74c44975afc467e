"""Batch normalisation whose statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of rows, each of which may stand for several equal ones.

    In training it measures the rows of all processes together (torch's `SyncBatchNorm` does so on GPUs only): training
    then does not depend on the number of processes. Where there is one row in all, which leaves no variance to measure,
    it falls back on its running statistics.
    """

    def forward(
        self, rows: Float[Tensor, "rows features"], count: Float[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "rows features"]:
        """Normalise each feature.

        Args:
            rows: The different rows.
            count: How often each occurs; once by default.
        """
        shared = self.training and _is_shared()
        if count is None and not shared and len(rows) > 1:
            normed: Tensor = super().forward(rows)
            return normed
        if count is None:
            count = rows.new_ones(len(rows))
        total = _over_processes(count.sum(), shared)
        if not self.training or total <= 1:
            return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normed, mean, variance = _WeightedNorm.apply(rows, count / total, self.weight, self.bias, self.eps, shared)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * (total / (total - 1)), self.momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return normed


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _over_processes(value: Tensor, shared: bool) -> Tensor:
    """Sum over the processes, in place."""
    if shared:
        dist.all_reduce(value)
    return value


class _WeightedNorm(Function):
    """Batch norm with a weight per row, and its gradient in as few passes as the unweighted one.

    As in `SyncBatchNorm`, rows get the gradient of the sum of all processes' losses; weight and bias that of their
    own process, since `DistributedDataParallel` averages those.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, share: Tensor, weight: Tensor, bias: Tensor, eps: float, shared: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _over_processes(share @ rows, shared)
        unit = rows - mean
        variance = _over_processes(share @ unit.square(), shared)
        inverse = torch.rsqrt(variance + eps)
        unit *= inverse
        ctx.save_for_backward(unit, share, weight, inverse)
        ctx.shared = shared
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias, unit, weight), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None, None]:
        unit, share, weight, inverse = ctx.saved_tensors
        grad_bias = grad.sum(0)
        grad_weight = (grad * unit).sum(0)
        of_all = _over_processes(torch.stack([grad_bias, grad_weight]), ctx.shared)
        common = torch.addcmul(of_all[0], unit, of_all[1]).mul_(share[:, None])
        return (grad - common).mul_(weight * inverse), None, grad_weight, grad_bias, None, None
