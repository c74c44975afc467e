"""Predictors of the labelled real crystals that arms are held against: baselines, and what a generator has learnt."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from matwheel.data.crystal import CrystalTable, FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.arms import REAL_ARM
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.latents import latent_features
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.encoder_network import EncoderNetwork
from matwheel.predictors.feature_predictor import FeaturePredictor
from matwheel.predictors.features import Cell, Composition, Features
from matwheel.predictors.median import Median
from matwheel.predictors.predictor import Predictor

Baseline = Literal["dummy", "trees"]
"""Training median; trees on statistics of composition and cell."""
BASELINES: Mapping[Baseline, Predictor] = {"dummy": Median(), "trees": FeaturePredictor()}
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


def is_reference(arm: str, round: int) -> bool:
    """Whether a row of results is of one of these, which arm and round tell, whatever a study calls its predictor."""
    return arm in get_args(Baseline) or (arm in REAL_ARM.values() and round > 0)


class Latents(Features):
    """The means of the latents of a trained generator.

    Args:
        generator: The prior with its autoencoder.
        data: Has the rule of the graphs.
    """

    portable = False

    def __init__(self, generator: LatentPrior, data: CrystalDataModule) -> None:
        self.generator = generator.eval()
        self.data = data

    @property
    def names(self) -> tuple[str, ...]:
        """See `Features`."""
        return tuple(f"latent {number}" for number in range(self.generator.vae.latent_dim))

    def compute(self, table: CrystalTable) -> FloatArray:
        """See `Features`."""
        requests = self.data.with_training(np.zeros(0, dtype=np.int64), table)
        return latent_features(self.generator, requests.ordered_dataloader())


def latents_predictor(generator: LatentPrior, data: CrystalDataModule) -> Predictor:
    """The trees of the baseline, with the latents of a trained generator beside their features."""
    return FeaturePredictor([Composition(), Cell(), Latents(generator, data)], name=REUSED["latents"])


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
