"""What pre-training and guidance do for a generator of poly_total crystals.

Run from the repository root: `python experiments/pretraining_poly_total/run.py --splits FILE`, where FILE is
`mp_poly_total.moe_splits.json`. An interrupted run continues where it was; finished stages are not repeated. Conditions
are judged by predictors trained on the validation and test crystals of the split, which no generator has seen.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from matwheel.data.crystal import CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.diffusion.noise import CoordinateNoise
from matwheel.flywheel.conditions import KernelDensity
from matwheel.flywheel.fingerprint import data_fingerprint, describe
from matwheel.flywheel.ledger import Ledger, StageResult
from matwheel.flywheel.pretraining import Pretraining
from matwheel.flywheel.processes import SINGLE_PROCESS
from matwheel.flywheel.run import Run
from matwheel.flywheel.stages import FitSettings, train_generator, train_prior
from matwheel.flywheel.trainers import BEST, StageTrainers, seed_all
from matwheel.metrics.condition_error import condition_error
from matwheel.metrics.validity import composition_validity, structure_validity
from matwheel.models.averaging import WeightAverage
from matwheel.models.checkpoints import load_weights
from matwheel.models.con_cdvae import ConCDVAE, LossWeights
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.unpack import Provenance
from matwheel.nn.cell_encoder import CellEncoder
from matwheel.nn.cgcnn import CGCNN
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.painn import PaiNNDecoder, PaiNNEncoder

HERE = Path(__file__).parent
TERMS = ("loss", "coordinate", "lattice", "composition", "num_atoms_accuracy", "property", "kl")
JUDGES = 2


def generator() -> DiffusionPrior:
    """The default generator, untrained."""
    seed_all(0)
    vae = ConCDVAE(
        CellEncoder(PaiNNEncoder()),
        PaiNNDecoder(predict_types=False),
        ConditionEmbedding(dropout=0.1),
        coordinate_noise=CoordinateNoise(5.0, 0.03),
        loss_weights=LossWeights(composition=10.0, num_atoms=3.0),
        schedule="one_cycle",
    )
    return DiffusionPrior(vae)


def predictor() -> PropertyPredictor:
    """The predictor of configs/predictor/cgcnn.yaml."""
    return PropertyPredictor(CGCNN(max_neighbours=20, dropout=0.2), learning_rate=5e-3)


class Experiment:
    """Its stages, each run when its result is first asked for.

    Args:
        run: Runs the stages.
        splits: File of the published splits.
        index: Which of them.
    """

    def __init__(self, run: Run, splits: Path, index: int) -> None:
        self.run = run
        self.data = loaded(FileSplit(splits, index))
        self.held_out = loaded(judge_split(splits, index, run.ledger.folder))

    def pretrained(self, epochs: int) -> StageResult:
        """An autoencoder that has seen other crystals, without labels."""
        settings = Pretraining(fit=FitSettings(epochs, batch_size=32, ema_decay=0.99))
        data = settings.data(self.data)

        def work(folder: Path, seed: int) -> dict[str, float]:
            vae = trainable(generator())
            return {**data.left_out(), **train_generator(vae, data, settings.fit, seed, folder, self.run.trainers)}

        name = f"pretrained-{epochs}"
        return self.run.stage(name, work, {"fit": describe(settings.fit)}, {"data": data_fingerprint(data)})

    def vae(self, epochs: int, start: StageResult | None) -> StageResult:
        """An autoencoder of the small set."""
        settings = FitSettings(epochs, batch_size=32, ema_decay=0.99)

        def work(folder: Path, seed: int) -> dict[str, float]:
            vae = trainable(generator())
            if start is not None:
                load_weights(vae, start.folder / BEST)
            return train_generator(vae, self.data, settings, seed, folder, self.run.trainers)

        name = f"autoencoder-{epochs}{'' if start is None else f'-from-{start.folder.name}'}"
        inputs = {"data": data_fingerprint(self.data), **({} if start is None else {"start": start.key})}
        return self.run.stage(name, work, {"fit": describe(settings)}, inputs)

    def prior(self, vae: StageResult) -> DiffusionPrior:
        """A whole generator."""
        settings = FitSettings(100, batch_size=64, check_val_every_n_epoch=5)
        model = generator()
        model.vae_checkpoint = vae.folder / BEST
        done = self.run.stage(
            f"prior-of-{vae.folder.name}",
            lambda folder, seed: train_prior(model, self.data, settings, seed, folder, self.run.trainers),
            {"fit": describe(settings)},
            {"autoencoder": vae.key},
        )
        load_weights(model, done.folder / BEST)
        return model.eval()

    def judge(self, table: CrystalTable) -> np.ndarray:
        """[n], ln of the property of crystals, by predictors that no generator agrees with by training."""
        graphs = CrystalGraphs.build(table, self.data.cutoff, self.data.max_neighbours)
        answers = []
        for member in range(JUDGES):
            model, average = predictor(), [WeightAverage(0.99)]
            stage = self.run.stage(
                f"judge-{member}",
                lambda folder, seed, model=model, average=average: self._fit_judge(model, folder, seed, average),
                {"model": describe(predictor)},
                {"data": data_fingerprint(self.held_out)},
            )
            load_weights(model, stage.folder / BEST)
            model.eval()
            with torch.inference_mode():
                parts = [model(graphs.batch(rows)) for rows in torch.arange(len(table)).split(128)]
            answers.append(torch.cat(parts).log().numpy())
        return np.mean(answers, 0)

    def _fit_judge(self, model: PropertyPredictor, folder: Path, seed: int, callbacks: list[Callback]) -> dict:
        seed_all(seed)
        model.load_state_dict(predictor().state_dict())
        fit = self.run.trainers.fit
        return fit(model, self.held_out, folder, "judge", seed, "val/mae", callbacks=callbacks, max_epochs=30)

    def condition_row(self, name: str, asked: np.ndarray, table: CrystalTable) -> dict:
        """How well crystals meet their conditions."""
        valid = structure_validity(table).valid
        found = condition_error(np.log(asked[valid]), self.judge(table.take(valid.nonzero()[0])))
        return {
            "crystals": name,
            "n": found.count,
            "structure valid": valid.mean(),
            "composition valid": composition_validity(table).mean(),
            "MAE of ln": found.mae,
            "shuffled": found.shuffled_mae,
            "p": found.p_value,
            "rank correlation": found.rank_correlation,
        }


def trainable(prior: DiffusionPrior) -> ConCDVAE:
    """The autoencoder by itself."""
    return prior.vae.requires_grad_(True).train()


def loaded(split: FileSplit) -> CrystalDataModule:
    """Poly_total, divided."""
    data = CrystalDataModule("mp_poly_total", split=split, batch_size=16)
    data.prepare_data()
    data.setup("fit")
    return data


def judge_split(splits: Path, index: int, folder: Path) -> FileSplit:
    """Train on nine tenths of the rows that generators do not see."""
    published = json.loads(splits.read_text())["splits"][index]
    rows = np.random.default_rng(0).permutation(published["val"] + published["test"]).tolist()
    kept = len(rows) // 8
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"judge-split-{index}.json"
    path.write_text(json.dumps({"train": rows[kept:], "val": rows[:kept], "test": []}))
    return FileSplit(path)


def main() -> None:
    """Train, sample, judge; writes `validation.csv` and `conditions.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--pretraining-epochs", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--guidance", type=float, nargs="+", default=[0.0, 1.0, 1.5, 2.0, 3.0])
    options = parser.parse_args()

    with Ledger(Path(f"runs/pretraining_poly_total-{options.split}"), SINGLE_PROCESS) as ledger:
        experiment = Experiment(Run(ledger, StageTrainers(), seed=0), options.splits, options.split)
        data = experiment.data
        pretrained = experiment.pretrained(options.pretraining_epochs)
        stages = [experiment.vae(options.epochs, None), experiment.vae(options.epochs, pretrained)]
        losses = [
            {"stage": s.folder.name, **{t: s.metrics[f"val/{t}"] for t in TERMS}, "seconds": s.seconds}
            for s in (pretrained, *stages)
        ]
        pd.DataFrame(losses).round(4).to_csv(HERE / "validation.csv", index=False)
        print(pd.DataFrame(losses).round(3).to_string(index=False))

        real = data.table.take(data.train_rows)
        rows = [experiment.condition_row("real training crystals", real.properties["poly_total"], real)]
        asked = KernelDensity().draw(data.training_statistics().conditions.numpy(), options.samples, seed=0)
        index = torch.arange(options.samples)
        for stage in stages:
            prior = experiment.prior(stage)
            for guidance in options.guidance:
                for oversample in (1, 4):
                    prior.guidance, prior.oversample = guidance, oversample
                    table = prior.sample(torch.from_numpy(asked), index, index, Provenance("experiment"))
                    name = f"{stage.folder.name}, guidance {guidance:g}, best of {oversample}"
                    rows.append(experiment.condition_row(name, asked[:, 0], table))
                    pd.DataFrame(rows).round(4).to_csv(HERE / "conditions.csv", index=False)
        print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
