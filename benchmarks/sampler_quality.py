"""Quality of samples against the number of decoder calls, all samplers on one trained generator.

python -m benchmarks.sampler_quality runs/NAME/stages/prior/best.ckpt runs/NAME/stages/predictor-F/best.ckpt

The first checkpoint is the prior of a finished `make flywheel`, the second its predictor of real crystals. All samplers
get the same conditions and seeds, so that cells and numbers of atoms are the same and only atoms differ. Coverage is
against the validation crystals of the split, so that samplers may be chosen by it; matches are against its training
crystals. The predictor has seen the generator's training crystals: its condition error only compares samplers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.diffusion.samplers import AnnealedLangevin, DenoisingSampler, Sampler
from matwheel.flywheel.conditions import KernelDensity
from matwheel.memory import keep_freed_memory
from matwheel.metrics.coverage import coverage
from matwheel.metrics.distributions import densities, element_counts, wasserstein
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.metrics.matching import find_matches
from matwheel.metrics.pool import Pool
from matwheel.metrics.validity import composition_validity, structure_validity
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.saved_generator import SavedGenerator
from matwheel.models.trained import TrainedModel
from matwheel.models.unpack import Provenance
from matwheel.seeded import derive_seeds

HERE = Path(__file__).parent
SAMPLERS: dict[str, Sampler] = {
    "denoising, stochasticity 0.5, 5 steps": DenoisingSampler(5),
    "denoising, stochasticity 0.5, 10 steps": DenoisingSampler(10),
    "denoising, stochasticity 0.5, 25 steps": DenoisingSampler(25),
    "denoising, stochasticity 0.5, 50 steps": DenoisingSampler(50),
    "denoising, stochasticity 0, 25 steps": DenoisingSampler(25, stochasticity=0.0),
    "denoising, stochasticity 1, 25 steps": DenoisingSampler(25, stochasticity=1.0),
    "denoising, stochasticity 0, 50 steps": DenoisingSampler(50, stochasticity=0.0),
    **{
        f"denoising, stochasticity 0, 25 steps, 3 correctors of {size}": DenoisingSampler(
            25, stochasticity=0.0, corrector_steps=3, corrector_size=size
        )
        for size in (0.03, 0.1, 0.3)
    },
    "Langevin, 20 levels x 5 steps, a tenth of the size": AnnealedLangevin(
        num_levels=20, steps_per_level=5, step_lr=1e-5
    ),
    "Langevin, 20 levels x 5 steps": AnnealedLangevin(num_levels=20, steps_per_level=5),
    "Langevin, 50 levels x 10 steps": AnnealedLangevin(steps_per_level=10),
    "Langevin, 50 levels x 100 steps": AnnealedLangevin(steps_per_level=100),
}


def main() -> None:
    """Sample, measure, write `sampler_quality.csv` and `sampler_quality.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path, help="checkpoint of a whole generator")
    parser.add_argument("predictor", type=Path, help="checkpoint of a predictor trained on real crystals")
    parser.add_argument("--samples", type=int, default=256)
    options = parser.parse_args()
    keep_freed_memory()

    data = CrystalDataModule()
    data.prepare_data()
    data.setup("fit")
    prior = SavedGenerator.load(options.prior).model
    if isinstance(prior, KernelPrior):
        prior.template_noise = None  # all the way from noise
    predictor = TrainedModel.load(options.predictor, PropertyPredictor).model

    training = data.table.take(data.train_rows)
    val = data.table.take(data.val_rows)
    pool = Pool()
    reference = Fingerprints.of(val, pool, "Validation crystals")
    values = KernelDensity().draw(data.training_statistics().conditions.numpy(), options.samples, 0, ())
    conditions = torch.from_numpy(values).float()
    index = torch.arange(options.samples)
    seeds = derive_seeds(torch.zeros_like(index), index)
    rows = []
    for name, sampler in SAMPLERS.items():
        prior.sampler = sampler
        clock = time.perf_counter()
        table = prior.sample(conditions, seeds, index, Provenance("benchmark"))
        seconds = time.perf_counter() - clock
        valid = structure_validity(table).valid
        sane = table.take(np.flatnonzero(valid))
        cover = coverage(Fingerprints.of(sane, pool, name), reference)
        graphs = CrystalGraphs.build(sane, data.cutoff, data.max_neighbours)
        with torch.inference_mode():
            predicted = predictor(graphs.batch(torch.arange(len(sane)))).numpy()
        asked = values[valid, 0]
        rows.append(
            {
                "sampler": name,
                "calls": len(sampler.steps(prior.vae.coordinate_noise)),
                "seconds_per_structure": seconds / len(table),
                "structure_valid": valid.mean(),
                "composition_valid": composition_validity(table).mean(),
                "cov_r": cover.recall,
                "cov_p": cover.generated.sum() / len(table),
                "wasserstein_density": wasserstein(densities(sane), densities(val)),
                "wasserstein_elements": wasserstein(element_counts(sane), element_counts(val)),
                "match_training": (find_matches(sane, training, pool=pool).row >= 0).sum() / len(table),
                "condition_mae": np.abs(predicted - asked).mean(),
                "condition_log_mae": np.abs(np.log(predicted / asked)).mean(),
            }
        )
        pd.DataFrame(rows).round(4).to_csv(HERE / "sampler_quality.csv", index=False)
        print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)
    plot(pd.DataFrame(rows))


def plot(table: pd.DataFrame) -> None:
    """Four figures against the number of calls."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), constrained_layout=True)
    panels = {
        "structure_valid": "structures valid",
        "cov_p": "COV-P",
        "wasserstein_density": "Wasserstein distance of density, g/cm³",
        "condition_log_mae": "mean |ln(predicted / asked)|",
    }
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        name = table["sampler"]
        kinds = {
            "denoising": name.str.startswith("denoising") & ~name.str.contains("corrector"),
            "denoising with correctors": name.str.contains("corrector"),
            "Langevin": name.str.startswith("Langevin"),
        }
        for (kind, chosen), marker in zip(kinds.items(), "o^s", strict=True):
            part = table[chosen]
            axis.scatter(part["calls"], part[column], marker=marker, label=kind)
        axis.set(xscale="log", xlabel="decoder calls per structure", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(HERE / "sampler_quality.png", dpi=130)


if __name__ == "__main__":
    main()
