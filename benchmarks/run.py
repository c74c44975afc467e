"""Speed of the hot paths, each as measured and relative to the machine's own matrix product in the same run.

`make bench` writes `benchmarks/latest.json`. Compare ratios between machines, never seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch_geometric.data import Batch

from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.devices import has_bfloat16
from matwheel.diffusion.draws import NoiseDraws
from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.memory import keep_freed_memory
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.unpack import Provenance
from matwheel.nn.cell_encoder import CellEncoder
from matwheel.nn.cgcnn import CGCNN
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.dimenet import DimeNetPlusPlus
from matwheel.nn.gemnet import GemNetT
from matwheel.nn.painn import PaiNNDecoder, PaiNNEncoder

LATEST = Path(__file__).parent / "latest.json"
CONFIG = Path(__file__).resolve().parents[1] / "configs" / "flywheel" / "full.yaml"
DEFAULT_STEPS = 25
"""Steps of the sampler in configs/flywheel/full.yaml; crystals on templates take the last 12."""
DEFAULT_LATENTS = 8
"""Latents drawn per sample there."""


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call after one warm-up call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def matmul_gflops() -> float:
    """The yardstick: a 1,024 x 1,024 float32 matrix product."""
    matrix = torch.randn(1024, 1024)
    return 2 * 1024**3 / median_seconds(lambda: matrix @ matrix, 50) / 1e9


Loss = Callable[[Batch], torch.Tensor]


def train_epoch(model: torch.nn.Module, loss: Loss, data: CrystalDataModule, fused: bool = True) -> None:
    """One epoch of forward, backward and optimiser, without Lightning around it."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)
    for batch in data.train_dataloader():
        _step(model, loss, batch, optimizer)


def train_step(model: torch.nn.Module, loss: Loss, batch: Batch) -> Callable[[], None]:
    """The same for one batch, again and again."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    return lambda: _step(model, loss, batch, optimizer)


def _step(model: torch.nn.Module, loss: Loss, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss(batch).backward()
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
    optimizer.step()


def predictor_loss(data: CrystalDataModule) -> tuple[PropertyPredictor, Loss]:
    """CGCNN and its error on a batch."""
    predictor = PropertyPredictor(CGCNN())
    predictor.transform.fit(data.training_statistics().target)

    def loss(batch: Batch) -> torch.Tensor:
        return torch.nn.functional.l1_loss(predictor.network(batch), predictor.transform(batch.target))

    return predictor, loss


def generator(data: CrystalDataModule, paper: bool = False) -> ConCDVAE:
    """Con-CDVAE with the default networks or the paper's, its statistics fitted."""
    if paper:
        model = ConCDVAE(DimeNetPlusPlus(), GemNetT(320), ConditionEmbedding())
    else:
        encoder, decoder = CellEncoder(PaiNNEncoder()), PaiNNDecoder(320, predict_types=False)
        model = ConCDVAE(encoder, decoder, ConditionEmbedding())
    statistics = data.training_statistics()
    model.condition_embedding.fit(data.conditions, statistics.conditions)
    model.lattice_scaler.fit(statistics.lattices, statistics.num_atoms)
    return model


def vae_loss(model: ConCDVAE, mixed: bool = False) -> Loss:
    """The training loss of a batch, in mixed precision (bfloat16) if wanted."""

    def loss(batch: Batch) -> torch.Tensor:
        seeds = torch.randint(2**62, (batch.num_graphs,))
        draws = NoiseDraws.seeded(seeds, batch.num_atoms, model.latent_dim, model.coordinate_noise.num_levels)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            terms, _ = model._terms(batch, draws, true_cells=True)
        return torch.stack([getattr(model.loss_weights, name) * term.mean() for name, term in terms.items()]).sum()

    return loss


def decoder_call(model: ConCDVAE, batch: Batch) -> Callable[[], object]:
    """The decoder on a batch, without gradients."""
    latent = torch.randn(batch.num_graphs, 320)

    def call() -> object:
        with torch.inference_mode():
            return model.decoder(latent, batch.num_atoms, batch.lattice, batch.frac_coords, batch.atomic_numbers)

    return call


def prepared(batch_size: int) -> CrystalDataModule:
    """The default data set."""
    data = CrystalDataModule(batch_size=batch_size)
    data.prepare_data()
    data.setup("fit")
    return data


def measure(repeats: int) -> dict[str, float]:
    """All figures."""
    torch.manual_seed(0)
    data, small_batches = prepared(64), prepared(32)
    count = len(data.train_rows)
    figures = {"matmul_gflops": matmul_gflops()}
    figures["graphs_per_s"] = len(data.table) / median_seconds(lambda: CrystalGraphs.build(data.table), repeats)

    predictor, error = predictor_loss(data)
    figures["cgcnn_train_per_s"] = count / median_seconds(lambda: train_epoch(predictor, error, data), repeats)
    paper, default = generator(data, paper=True), generator(small_batches)
    kinds = (  # the paper's sizes in the precision of configs/generator/con_cdvae_paper.yaml, and in full
        *([("paper", paper, data, True)] if has_bfloat16() else []),
        ("paper_float32", paper, data, False),
        ("default", default, small_batches, False),
    )
    for name, model, module, mixed in kinds:
        seconds = median_seconds(
            # Like `matwheel.models.optimisation.may_fuse`.
            lambda model=model, module=module, mixed=mixed: train_epoch(
                model, vae_loss(model, mixed), module, fused=not mixed
            ),
            min(repeats, 3),
        )
        figures[f"con_cdvae_{name}_train_per_s"] = count / seconds

    batch = next(iter(data.val_dataloader()))
    batch = data._real.batch(batch.row[:64])
    for name, model in (("gemnet", paper), ("painn", default)):
        seconds = median_seconds(decoder_call(model, batch), 3 * repeats)
        figures[f"{name}_call_ms_per_structure"] = 1e3 * seconds / batch.num_graphs

    prior = KernelPrior(default, DenoisingSampler(DEFAULT_STEPS), oversample=DEFAULT_LATENTS)
    conditions = data.training_statistics().conditions.float()
    prior.take_crystals(data.ordered_dataloader(data.train_rows), data.ids(torch.from_numpy(data.train_rows)))
    requests, conditions = torch.arange(64), conditions[:64]
    seconds = median_seconds(lambda: prior.sample(conditions, requests, requests, Provenance("benchmark")), repeats)
    figures["sampling_s_per_structure"] = seconds / 64
    return figures


def flywheel_minutes() -> float:
    """The whole of `make flywheel`, from nothing."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "matwheel.fit", "fit", "--config", str(CONFIG)]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - start) / 60


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    with isolate_rng():
        figures = measure(options.repeats)
    figures["flywheel_minutes"] = flywheel_minutes()
    yardstick = figures["matmul_gflops"]
    print(f"{'figure':34s}{'measured':>12s}  per GFLOP/s of the yardstick (times it, for durations)")
    for name, value in figures.items():
        if name != "matmul_gflops":
            is_duration = "_ms_" in name or "_s_per" in name or "minutes" in name
            relative = value * yardstick if is_duration else value / yardstick
            print(f"{name:34s}{value:12.4g}  {relative:.4g}")
    print(f"{'matmul_gflops':34s}{yardstick:12.4g}")
    LATEST.write_text(json.dumps({**figures, "threads": options.threads}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
