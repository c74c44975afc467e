"""The default generator on Perov-5, judged as CDVAE judges generators.

Run from the repository root: `python experiments/perov_5/run.py --data-dir FOLDER`, where FOLDER holds `train.csv.gz`
and `test.csv.gz` of Perov-5. An interrupted run continues where it was; finished stages are not repeated. Only 1,024 of
the 11,356 training crystals have a label, so that crystals are generated without conditions, as CDVAE generates them.
The bandwidth of the prior is chosen by the coverage of validation crystals, a twentieth of the training file.
"""

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from matwheel.data.catalogue import load
from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.diffusion.noise import CoordinateNoise
from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.flywheel.fingerprint import data_fingerprint, describe
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.pretraining import UnlabelledDataModule
from matwheel.flywheel.processes import SINGLE_PROCESS
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import FitSettings, train_generator, train_prior
from matwheel.flywheel.trainers import BEST, StageTrainers, seed_all
from matwheel.metrics.coverage import CoverageCutoffs, coverage
from matwheel.metrics.distributions import densities, element_counts, wasserstein
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.metrics.pool import Pool
from matwheel.metrics.validity import composition_validity, structure_validity
from matwheel.models.checkpoints import load_weights
from matwheel.models.con_cdvae import ConCDVAE, LossWeights
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.unpack import Provenance
from matwheel.nn.cell_encoder import CellEncoder
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.painn import PaiNNDecoder, PaiNNEncoder

HERE = Path(__file__).parent
CUTOFFS = CoverageCutoffs(structure=0.2, composition=4.0)  # CDVAE's for Perov-5
CHOICE = 500
"""Crystals by which a bandwidth is judged, and real ones that show what coverage can be."""
Row = dict[str, Any]
PUBLISHED: Row = {
    "generator": "CDVAE (published)",
    "structure valid": 1.0,
    "composition valid": 0.986,
    "COV-R": 0.9945,
    "COV-P": 0.9846,
    "W density": 0.126,
    "W elements": 0.063,
}


def build() -> KernelPrior:
    """The untrained generator."""
    seed_all(0)
    vae = ConCDVAE(
        CellEncoder(PaiNNEncoder()),
        PaiNNDecoder(predict_types=False),
        ConditionEmbedding(dropout=0.1),
        coordinate_noise=CoordinateNoise(sigma_max=2.5, sigma_min=0.03),  # cells are 4 A wide: 2.5 A are everywhere
        max_atoms=20,
        loss_weights=LossWeights(composition=20.0),
        schedule="one_cycle",
    )
    return KernelPrior(vae, template_noise=None)  # the benchmark is of crystals made from noise


def train(data: UnlabelledDataModule, epochs: int, folder: Path) -> KernelPrior:
    """Autoencoder, then prior."""
    key = {"data": data_fingerprint(data)}
    vae_fit = FitSettings(epochs, 64, gradient_clip_val=1.0, gradient_clip_algorithm="norm", ema_decay=0.99)
    with Ledger(folder, SINGLE_PROCESS) as ledger:
        run = Run(ledger, StageTrainers(), seed=0)
        prior = build()
        generator = run.stage(
            "generator",
            lambda out, seed: train_generator(prior.vae.requires_grad_(True), data, vae_fit, seed, out, run.trainers),
            {"model": describe(prior.vae), "fit": describe(vae_fit)},
            key,
        )
        print({name: round(value, 3) for name, value in generator.metrics.items()}, f"{generator.seconds:.0f} s")
        prior = build()
        prior.vae_checkpoint = generator.folder / BEST
        done = run.stage(
            "prior",
            lambda out, seed: train_prior(prior, data, FitSettings(), seed, out, run.trainers),
            {},
            {**key, "generator": generator.key},
        )
        print({name: round(value, 3) for name, value in done.metrics.items()}, f"{done.seconds:.0f} s")
        load_weights(prior, done.folder / BEST)
    return prior


def judge(made: CrystalTable, known: CrystalTable, real: CrystalTable, prints: Fingerprints, pool: Pool) -> Row:
    """Generated crystals against real ones, and the share whose formula no training crystal has."""
    structure, composition = structure_validity(made).valid, composition_validity(made)
    valid = made.take((structure & composition).nonzero()[0])
    covered = coverage(Fingerprints.of(made, pool, "Fingerprints"), prints, CUTOFFS)
    formulas = set(map(formula, known))
    return {
        "structure valid": structure.mean(),
        "composition valid": composition.mean(),
        "COV-R": covered.recall,
        "COV-P": covered.precision,
        "W density": wasserstein(densities(valid), densities(real)),
        "W elements": wasserstein(element_counts(valid), element_counts(real)),
        "new": np.mean([formula(crystal) not in formulas for crystal in made]),
    }


def formula(crystal: Crystal) -> tuple[int, ...]:
    """Atomic numbers in order."""
    return tuple(sorted(crystal.atomic_numbers.tolist()))


def main() -> None:
    """Train, choose the bandwidth, sample, judge; writes `bandwidths.csv` and `results.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50], help="decoder calls per crystal")
    parser.add_argument("--oversample", type=int, nargs="+", default=[1, 8], help="latents drawn per crystal")
    parser.add_argument("--bandwidths", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.4])
    options = parser.parse_args()

    data = UnlabelledDataModule([str(options.data_dir / "train.csv.gz")])
    data.prepare_data()
    data.setup("fit")
    prior = train(data, options.epochs, Path(f"runs/perov_5-{options.epochs}"))
    pool, known = Pool(progress=True), data.training_table

    def sampled(count: int, bandwidth: float, oversample: int, steps: int) -> tuple[CrystalTable, float]:
        prior.bandwidth, prior.oversample = bandwidth, oversample
        prior.sampler, clock = DenoisingSampler(steps, stochasticity=1.0), time.perf_counter()
        nothing, index = torch.full((count, 1), torch.nan), torch.arange(count)
        table = prior.sample(nothing, index, index, Provenance(prior.weights_hash()), progress=True)
        return table, (time.perf_counter() - clock) / count

    held_out = data.table.take(data.val_rows)
    prints = Fingerprints.cached(held_out, pool)
    tried: list[Row] = []
    for bandwidth in options.bandwidths:
        table, _ = sampled(CHOICE, bandwidth, max(options.oversample), min(options.steps))
        tried.append({"bandwidth": bandwidth, **judge(table, known, held_out, prints, pool)})
        write(tried, "bandwidths.csv")
    best = max(tried, key=lambda row: row["COV-R"] + row["COV-P"])["bandwidth"]

    test = load(str(options.data_dir / "test.csv.gz")).table
    prints = Fingerprints.cached(test, pool)
    real = known.take(np.random.default_rng(0).permutation(len(known))[:CHOICE])
    rows = [PUBLISHED, {"generator": f"{CHOICE} training crystals", **judge(real, known, test, prints, pool)}]
    for oversample, steps in product(options.oversample, options.steps):
        table, seconds = sampled(options.samples, best, oversample, steps)
        name = f"default, h = {best:g}, {options.epochs} epochs, {oversample} latents, {steps} calls"
        rows.append({"generator": name, **judge(table, known, test, prints, pool), "s/structure": seconds})
        write(rows, "results.csv")


def write(rows: list[Row], name: str) -> None:
    """Keep and show a table."""
    frame = pd.DataFrame(rows).round(4)
    frame.to_csv(HERE / name, index=False)
    print(frame.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
