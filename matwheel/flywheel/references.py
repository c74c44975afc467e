"""Predictors of the labelled real crystals that arms are held against: baselines, and what a generator has learnt."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from matwheel.baselines import featurise, predict_dummy, predict_trees
from matwheel.data.crystal import FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.files import replaced_when_complete
from matwheel.metrics.errors import prediction_errors
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.latents import latent_features
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.encoder_network import EncoderNetwork

Baseline = Literal["dummy", "trees"]
"""Training median; trees on statistics of composition and cell."""
Reuse = Literal["latents", "encoder"]
"""What of a trained generator serves a predictor.

- `latents`: the means of the crystals' latents, beside the features of the baseline's trees.
- `encoder`: the encoder with a new head, fine-tuned by the recipe of the arms.
"""
REUSED: dict[Reuse, str] = {"latents": "trees + latents", "encoder": "encoder"}
"""Names of these predictors."""
_LEARNING_RATE = 1e-3
"""Highest of a fine-tuned encoder, that of its training: a larger one wipes out what it has learnt."""
_DROPOUT = 0.2
"""Of what the head sees."""


def evaluate_baseline(kind: Baseline, data: CrystalDataModule, seed: int, folder: Path) -> dict[str, float]:
    """Errors of a baseline; leaves its predictions of the test rows."""
    if kind == "dummy":
        others = len(data.val_rows) + len(data.test_rows)
        predicted = predict_dummy(data.table.properties[data.target][data.train_rows], others)
        return _evaluate(predicted, data, folder)
    return _evaluate(_trees(featurise(data.table), data, seed), data, folder)


def evaluate_latents(generator: LatentPrior, data: CrystalDataModule, seed: int, folder: Path) -> dict[str, float]:
    """Errors of trees that know the latents of a trained generator as well; leaves predictions of the test rows."""
    latents = latent_features(generator.eval(), data.predict_dataloader())
    features = np.column_stack([featurise(data.table), latents])
    return _evaluate(_trees(features, data, seed), data, folder)


def encoder_predictor(model: PropertyPredictor, generator: ConCDVAE, checkpoint: Path) -> PropertyPredictor:
    """A predictor like another one with the encoder of a trained generator as its network.

    Args:
        model: Gives transform, loss and schedule.
        generator: Has such an encoder.
        checkpoint: The weights of the generator.
    """
    predictor = copy.deepcopy(model)
    predictor.network = EncoderNetwork(copy.deepcopy(generator.encoder), dropout=_DROPOUT, start=checkpoint)
    predictor.learning_rate = _LEARNING_RATE
    return predictor


def _trees(features: FloatArray, data: CrystalDataModule, seed: int) -> FloatArray:
    """Predictions for validation and test rows from features of all rows."""
    target = data.table.properties[data.target][data.train_rows]
    others = np.concatenate([data.val_rows, data.test_rows])
    return predict_trees(features[data.train_rows], target, features[others], seed)


def _evaluate(predicted: FloatArray, data: CrystalDataModule, folder: Path) -> dict[str, float]:
    """Errors of predictions for validation and test rows; writes the latter."""
    val_target, test_target = (data.table.properties[data.target][rows] for rows in (data.val_rows, data.test_rows))
    val, test = np.split(predicted, [len(val_target)])
    table = pd.DataFrame({"id": data.table.ids[data.test_rows], "prediction": test, "target": test_target})
    with replaced_when_complete(folder / "predictions.csv") as temporary:
        table.to_csv(temporary, index=False)
    errors = prediction_errors(test_target, test)
    return {
        "val_mae": prediction_errors(val_target, val).mae,
        **{f"test_{name}": value for name, value in errors._asdict().items()},
    }
