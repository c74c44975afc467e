"""Batch norm over processes."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from matwheel.nn.batch_norm import BatchNorm

PROCESSES = 3


def _rows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = 2 + 3 * torch.randn(11, 4, generator=generator)
    return rows, torch.randint(1, 5, (11,), generator=generator).float(), torch.randn(11, 4, generator=generator)


def _norm() -> BatchNorm:
    norm = BatchNorm(4)
    torch.nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
    return norm


def _part_of(process: int, folder: str, counted: bool) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=process, world_size=PROCESSES)
    rows, count, wanted = (column[process::PROCESSES] for column in _rows())
    rows = rows.clone().requires_grad_()
    norm = _norm()
    loss = (norm(rows, count if counted else None) * wanted).sum()
    loss.backward()
    torch.save((rows.grad, norm.weight.grad, norm.bias.grad, norm.state_dict()), f"{folder}/{process}.pt")
    dist.destroy_process_group()


def _check(folder: Path, counted: bool) -> None:
    mp.spawn(_part_of, (str(folder), counted), PROCESSES)
    rows, count, wanted = _rows()
    rows.requires_grad_()
    norm = _norm()
    (norm(rows, count if counted else None) * wanted).sum().backward()
    parts = [torch.load(folder / f"{process}.pt", weights_only=True) for process in range(PROCESSES)]
    close = {"rtol": 1e-5, "atol": 1e-5}
    for process, (grad, _, _, state) in enumerate(parts):
        torch.testing.assert_close(grad, rows.grad[process::PROCESSES], **close)
        torch.testing.assert_close(state, norm.state_dict(), **close)
    torch.testing.assert_close(sum(part[1] for part in parts), norm.weight.grad, **close)
    torch.testing.assert_close(sum(part[2] for part in parts), norm.bias.grad, **close)


def test_processes_normalise_as_one(tmp_path: Path) -> None:
    _check(tmp_path, counted=False)


def test_processes_normalise_repeated_rows_as_one(tmp_path: Path) -> None:
    _check(tmp_path, counted=True)
