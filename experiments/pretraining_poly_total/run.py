"""What pre-training without labels, and guidance, do for a generator of poly_total crystals.

Run from the repository root with MATWHEEL_DATA set: `python -m experiments.pretraining_poly_total.run`. An interrupted
run continues where it was. Crystals are judged by predictors that learned from the validation and test rows of the
split (`experiments/synthetic_sources/conditions.py`), which no generator has seen.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.latent_prior.run import AUTOENCODER, SAMPLES, TERMS, Variant, autoencoder, describe_samples, prior
from experiments.synthetic_sources.conditions import Judges
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.flywheel.conditions import KernelDensity
from matwheel.flywheel.fingerprint import data_fingerprint, describe
from matwheel.flywheel.ledger import Ledger, StageResult
from matwheel.flywheel.pretraining import Pretraining
from matwheel.flywheel.processes import SINGLE_PROCESS
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import train_generator
from matwheel.flywheel.trainers import StageTrainers
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.unpack import Provenance

HERE = Path(__file__).parent
NOISY_TYPES = Variant("types denoised, noise as published", 3)  # its loss compares with that of the released code
DEFAULT = Variant("default", 4, oversample=8, valid_compositions=True)
PUBLISHED_PRIOR = replace(DEFAULT, bandwidth=None, oversample=1)


def pretrained(run: Run, data: CrystalDataModule, variant: Variant, epochs: int) -> StageResult:
    """An autoencoder that has seen other crystals, without labels."""
    settings = Pretraining(fit=replace(AUTOENCODER, max_epochs=epochs))
    other = settings.data(data)

    def work(folder: Path, seed: int) -> dict[str, float]:
        vae = variant.model().vae.requires_grad_(True).train()
        return {**other.left_out(), **train_generator(vae, other, settings.fit, seed, folder, run.trainers)}

    config, inputs = {"fit": describe(settings.fit)}, {"data": data_fingerprint(other)}
    return run.stage(f"pretrained-{variant.steps}", work, config, inputs, purpose="pre-training")


def main() -> None:
    """Train, sample, judge; writes `validation.csv` and `conditions.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=7, help="of pre-training")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    options = parser.parse_args()

    splits = Path(os.environ["MATWHEEL_DATA"], "mp_poly_total.moe_splits.json")
    data = CrystalDataModule("mp_poly_total", split=FileSplit(splits, options.split))
    data.prepare_data()
    data.setup("fit")
    judges = Judges("mp_poly_total", options.split)
    real = data.table.take(data.train_rows)
    asked = KernelDensity().draw(data.training_statistics().conditions.numpy(), SAMPLES, seed=0)
    numbers = torch.arange(SAMPLES)
    losses: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with Ledger(Path(f"runs/pretraining_poly_total-{options.split}"), SINGLE_PROCESS) as ledger:
        run = Run(ledger, StageTrainers(), seed=0)

        def judged(name: str, variant: Variant, trained: StageResult, guidance: float | None = None) -> None:
            model, _ = prior(run, data, variant, trained)
            if isinstance(model, DiffusionPrior) and guidance is not None:
                model.guidance = guidance
            made = model.sample(torch.from_numpy(asked).float(), numbers, numbers, Provenance("experiment"))
            rows.append({"generator": name, **describe_samples(asked[:, 0], made, real, judges)})
            pd.DataFrame(rows).round(4).to_csv(HERE / "conditions.csv", index=False)

        for variant in (NOISY_TYPES, DEFAULT):
            other = pretrained(run, data, variant, options.epochs)
            for start in (None, other):
                trained = autoencoder(run, data, variant, start)
                how = "pre-trained" if start is not None else "not pre-trained"
                row = {"generator": variant.name, "start": how, "seconds": trained.seconds}
                losses.append(row | {term: trained.metrics.get(f"val/{term}", np.nan) for term in TERMS})
                pd.DataFrame(losses).round(4).to_csv(HERE / "validation.csv", index=False)
                if variant is DEFAULT:
                    judged(f"default, {how}", DEFAULT, trained)
                    for guidance in options.guidance:
                        judged(f"published prior, {how}, guidance {guidance:g}", PUBLISHED_PRIOR, trained, guidance)
    print(pd.DataFrame(losses).round(3).to_string(index=False))
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
