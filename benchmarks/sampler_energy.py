"""How smooth are crystals, by how they are sampled? Energies and forces of CHGNet, for crystals of the same latents.

`python -m benchmarks.sampler_energy RUN/stages/prior/best.ckpt RUN/stages/samples/samples.npz` makes the first
crystals of a run again, in several ways. Needs `pip install "matwheel[potentials]"`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.metrics.potential import CHGNet
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.saved_generator import SavedGenerator
from matwheel.models.unpack import Provenance

MAX_SIGMA = 2.5
COLD = DenoisingSampler(15, 1.0, MAX_SIGMA, 4, 0.3, 0.25)
WAYS = {  # sampler, and noise with which atoms leave the sites of templates
    "templates, 0.25 A (default)": (DenoisingSampler(25, 1.0, MAX_SIGMA), 0.25),
    "templates, 0.1 A": (DenoisingSampler(25, 1.0, MAX_SIGMA), 0.1),
    "templates, 0.5 A": (DenoisingSampler(25, 1.0, MAX_SIGMA), 0.5),
    "templates, 15 steps, 4 of 0.3 at temperature 0.25": (COLD, 0.25),
    "25 steps": (DenoisingSampler(25, 1.0, MAX_SIGMA), None),
    "50 steps": (DenoisingSampler(50, 1.0, MAX_SIGMA), None),
    "25 steps, along the flow": (DenoisingSampler(25, 0.0, MAX_SIGMA), None),
    "25 steps, 10 correctors of 0.1": (DenoisingSampler(25, 1.0, MAX_SIGMA, 10, 0.1), None),
    "15 steps, 4 correctors of 0.3": (DenoisingSampler(15, 1.0, MAX_SIGMA, 4, 0.3), None),
    "15 steps, 4 of 0.3 at temperature 0.25": (COLD, None),
    "15 steps, 4 of 0.3 at temperature 0": (DenoisingSampler(15, 1.0, MAX_SIGMA, 4, 0.3, 0.0), None),
}


def energies_and_forces(table: CrystalTable) -> tuple[FloatArray, FloatArray]:
    """eV/atom, and mean length of the forces in eV/A, of each crystal; NaN where the potential fails."""
    found = []
    for outcome, crystal in zip(CHGNet().evaluate(list(table)), table, strict=True):
        point = outcome.value
        nothing = (np.nan, np.nan)
        found.append(
            nothing
            if point is None
            else (point.energy / crystal.num_atoms, float(np.linalg.norm(point.forces, axis=1).mean()))
        )
    energy, force = np.array(found).T
    return energy, force


def main() -> None:
    """Sample, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prior", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--n", type=int, default=160)
    options = parser.parse_args()
    prior = SavedGenerator.load(options.prior).model
    assert isinstance(prior, KernelPrior)
    origins = [json.loads(origin) for origin in CrystalTable.load(options.samples).origins[: options.n]]
    conditions = torch.tensor([[origin["conditions"][name] for name in prior.condition_names] for origin in origins])
    seeds = torch.tensor([origin["seed"] for origin in origins])
    latents = prior.draw_latents(conditions, seeds)
    rows, first = [], None
    for name, (sampler, noise) in WAYS.items():
        prior.sampler, prior.template_noise = sampler, noise
        start = time.perf_counter()
        made = prior.decode(latents, conditions, seeds, torch.arange(len(seeds)), Provenance("benchmark"))
        seconds = (time.perf_counter() - start) / len(made)
        energy, force = energies_and_forces(made)
        first = energy if first is None else first
        rows.append(
            {
                "sampler": name,
                "calls": len(sampler.steps(prior.vae.coordinate_noise, math.inf if noise is None else noise)),
                "s/structure": seconds,
                "mean eV/atom": np.nanmean(energy),
                "median difference": np.nanmedian(energy - first),
                "median force": np.nanmedian(force),
            }
        )
        print(pd.DataFrame(rows).round(3).to_string(index=False), "\n", flush=True)


if __name__ == "__main__":
    main()
