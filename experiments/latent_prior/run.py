"""What a generator makes of its conditions, by steps from the published latent prior to the default one.

Run from the repository root with MATWHEEL_DATA set: `python -m experiments.latent_prior.run mp_poly_total`. An
interrupted run continues where it was. Crystals are judged by predictors that learned from the validation and test rows
of the split (`experiments/synthetic_sources/conditions.py`), which no generator has seen.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from experiments.synthetic_sources.conditions import Judges
from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.diffusion.noise import CoordinateNoise
from matwheel.diffusion.samplers import DenoisingSampler
from matwheel.flywheel.conditions import KernelDensity
from matwheel.flywheel.fingerprint import data_fingerprint, describe
from matwheel.flywheel.ledger import Ledger, StageResult
from matwheel.flywheel.processes import SINGLE_PROCESS
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import FitSettings, train_generator, train_prior
from matwheel.flywheel.trainers import BEST, StageTrainers, seed_all
from matwheel.metrics.condition_error import condition_error
from matwheel.metrics.distributions import densities, element_counts, wasserstein
from matwheel.metrics.matching import MatchTolerances, find_matches
from matwheel.metrics.validity import composition_validity, structure_validity
from matwheel.models.checkpoints import load_weights
from matwheel.models.con_cdvae import ConCDVAE, LossWeights
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.latents import latent_features
from matwheel.models.unpack import Provenance
from matwheel.nn.cell_encoder import CellEncoder
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.painn import PaiNNDecoder, PaiNNEncoder

HERE = Path(__file__).parent
TERMS = ("coordinate", "type", "composition", "num_atoms", "lattice", "property")
FIRST = FitSettings(30, batch_size=32, ema_decay=0.99)
AUTOENCODER = FitSettings(30, 32, gradient_clip_val=1.0, gradient_clip_algorithm="norm", ema_decay=0.99)
DIFFUSION = FitSettings(100, batch_size=64, check_val_every_n_epoch=5)
SAMPLES = 400


@dataclass(frozen=True)
class Variant:
    """A generator.

    Attributes:
        name: For the table.
        steps: How many of the steps from the first autoencoder to the default one are taken: 1, composition and number
            of atoms weigh 10 and 3 in the loss; 2, the encoder also reads composition, number of atoms and cell; 3, the
            learning rate is 2e-3 and the norm of the gradient bounded instead of each number; 4, the decoder is given
            the types and places atoms from 2.5 A on, not from 10 A, and sampling is fully stochastic.
        bandwidth: Of a kernel density as prior; the published diffusion model if None.
        keeps_composition: Whether crystals end with the composition that was decoded.
        oversample: Latents drawn per crystal.
        valid_compositions: Whether those of valid compositions come first.
        drawn: Whether latents are drawn; otherwise they are those of training crystals.
    """

    name: str
    steps: int = 3
    bandwidth: float | None = 0.4
    keeps_composition: bool = True
    oversample: int = 1
    valid_compositions: bool = False
    drawn: bool = True

    def model(self) -> LatentPrior:
        """Untrained."""
        seed_all(0)
        vae = ConCDVAE(
            CellEncoder(PaiNNEncoder()) if self.steps >= 2 else PaiNNEncoder(),
            PaiNNDecoder(predict_types=self.steps < 4),
            ConditionEmbedding(dropout=0.1),
            coordinate_noise=CoordinateNoise(2.5, 0.03) if self.steps >= 4 else CoordinateNoise(),
            schedule="one_cycle",
            loss_weights=LossWeights(composition=10.0, num_atoms=3.0) if self.steps >= 1 else LossWeights(),
            learning_rate=2e-3 if self.steps >= 3 else 1e-3,
        )
        stochasticity = 1.0 if self.steps >= 4 else 0.5
        sampler = (DenoisingSampler if self.keeps_composition else FreeTypes)(stochasticity=stochasticity)
        if self.bandwidth is None:
            return DiffusionPrior(vae, sampler, oversample=self.oversample)
        return KernelPrior(vae, sampler, self.bandwidth, None, self.oversample, self.valid_compositions)


class FreeTypes(DenoisingSampler):
    """Types are what the decoder says in the end."""

    keeps_composition = False


VARIANTS = (
    Variant("published prior, first autoencoder", 0, None, keeps_composition=False),
    Variant("composition kept", 0, None),
    Variant("composition weighs 10, number of atoms 3", 1, None),
    Variant("encoder reads the cell", 2, None),
    Variant("larger steps, norm bounded", 3, None),
    Variant("kernel density, h = 0.4"),
    Variant("best of 4 latents", oversample=4),
    Variant("best of 4, valid compositions first", oversample=4, valid_compositions=True),
    Variant("best of 8, valid compositions first", oversample=8, valid_compositions=True),
    Variant("types given (default)", 4, oversample=8, valid_compositions=True),
    Variant("composition not kept", keeps_composition=False, oversample=4),
    Variant("h = 0.2", bandwidth=0.2, oversample=4),
    Variant("h = 0.6", bandwidth=0.6, oversample=4),
    Variant("training crystals, encoded and decoded", drawn=False),
    Variant("the same, composition not kept", keeps_composition=False, drawn=False),
    Variant("the same, types given", 4, drawn=False),
)


def autoencoder(run: Run, data: CrystalDataModule, variant: Variant, start: StageResult | None = None) -> StageResult:
    """Train encoder and decoder, maybe pre-trained ones; the same for variants that differ in the prior alone."""
    settings = AUTOENCODER if variant.steps >= 3 else FIRST

    def work(folder: Path, seed: int) -> dict[str, float]:
        vae: ConCDVAE = variant.model().vae.requires_grad_(True).train()
        if start is not None:
            load_weights(vae, start.folder / BEST)
        return train_generator(vae, data, settings, seed, folder, run.trainers)

    name = f"autoencoder-{variant.steps}{'' if start is None else f'-from-{start.folder.name}'}"
    inputs = {"data": data_fingerprint(data), **({} if start is None else {"start": start.key})}
    return run.stage(name, work, {"fit": describe(settings)}, inputs, purpose="generator")


def prior(run: Run, data: CrystalDataModule, variant: Variant, trained: StageResult) -> tuple[LatentPrior, float]:
    """The whole generator, and its validation loss."""
    model = variant.model()
    model.vae_checkpoint = trained.folder / BEST
    done = run.stage(
        f"{'diffusion' if variant.bandwidth is None else f'kernel-{variant.bandwidth}'}-of-{trained.folder.name}",
        lambda folder, seed: train_prior(model, data, DIFFUSION, seed, folder, run.trainers),
        {"fit": describe(DIFFUSION)},
        {"autoencoder": trained.key},
        purpose="prior",
    )
    load_weights(model, done.folder / BEST)
    return model.eval(), done.metrics["val/loss"]


def formulas(table: CrystalTable) -> list[tuple[int, ...]]:
    """Atomic numbers of each crystal, in order."""
    return [tuple(sorted(crystal.atomic_numbers.tolist())) for crystal in table]


def describe_samples(asked: np.ndarray, made: CrystalTable, real: CrystalTable, judges: Judges) -> dict[str, float]:
    """What was made, and whether it is what was asked for."""
    known = set(formulas(real))
    sound = structure_validity(made).valid
    valid = made.take(sound.nonzero()[0])
    found = condition_error(np.log(asked[sound].clip(1e-3)), judges.log_property(valid))
    return {
        "structure valid": sound.mean(),
        "composition valid": composition_validity(made).mean(),
        "new formula": np.mean([formula not in known for formula in formulas(made)]),
        "elements": wasserstein(element_counts(made), element_counts(real)),
        "density": wasserstein(densities(valid), densities(real)),
        "MAE of ln": found.mae,
        "shuffled": found.shuffled_mae,
        "p": found.p_value,
        "rank correlation": found.rank_correlation,
    }


def recovered(made: CrystalTable, real: CrystalTable) -> float:
    """Share of crystals that match the one they were encoded from."""
    sound = structure_validity(made).valid.nonzero()[0]
    best = find_matches(made.take(sound), real.take(np.arange(len(made))), MatchTolerances(site=0.5)).row
    return float((best == sound).sum() / len(made))


def main() -> None:
    """Train, sample, judge; writes a table of the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    rows = []
    for index in options.splits:
        split = FileSplit(Path(os.environ["MATWHEEL_DATA"], f"{options.dataset}.moe_splits.json"), index)
        data = CrystalDataModule(options.dataset, split=split)
        data.prepare_data()
        data.setup("fit")
        judges = Judges(options.dataset, index)
        real = data.table.take(data.train_rows)
        asked = KernelDensity().draw(data.training_statistics().conditions.numpy(), SAMPLES, seed=0)
        numbers = torch.arange(SAMPLES)
        with Ledger(Path("runs", f"latent_prior-{options.dataset}-{index}"), SINGLE_PROCESS) as ledger:
            run = Run(ledger, StageTrainers(), seed=0)
            for variant in VARIANTS:
                trained = autoencoder(run, data, variant)
                model, loss = prior(run, data, variant, trained)
                encoded = latent_features(model, data.with_training().ordered_dataloader(data.train_rows))
                if variant.drawn:
                    wanted = torch.from_numpy(asked).float()
                    latents = model.draw_latents(wanted, numbers)
                else:
                    wanted = data.training_statistics().conditions[:SAMPLES].float()
                    latents = torch.from_numpy(encoded[:SAMPLES]).float()
                length = float(latents.norm(dim=1).mean()) / np.linalg.norm(encoded, axis=1).mean()
                made = model.decode(latents, wanted, numbers, numbers, Provenance("experiment"))
                row = {"dataset": options.dataset, "split": index, "generator": variant.name}
                row |= {f"val {term}": trained.metrics.get(f"val/{term}", np.nan) for term in TERMS}
                row |= {"loss of prior": loss, "length of latents": length}
                row |= describe_samples(wanted[:, 0].double().numpy(), made, real, judges)
                row["recovered"] = np.nan if variant.drawn else recovered(made, real)
                rows.append(row)
                pd.DataFrame(rows).round(4).to_csv(HERE / f"{options.dataset}.csv", index=False)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
