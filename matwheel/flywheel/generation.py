"""From real crystals to synthetic ones: samples of a trained generator or of a cheaper source, then the filter."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matwheel.data.crystal import CrystalTable
from matwheel.data.module import CrystalDataModule
from matwheel.files import read_parquet
from matwheel.flywheel.conditions import ConditionSampler
from matwheel.flywheel.filters import Filter
from matwheel.flywheel.fingerprint import Json, data_fingerprint, describe
from matwheel.flywheel.ledger import StageResult
from matwheel.flywheel.pretraining import Pretraining
from matwheel.flywheel.run import Run, Work
from matwheel.flywheel.sources import CrystalSource
from matwheel.flywheel.stages import (
    CONDITIONS,
    CRYSTALS,
    FitSettings,
    derive_crystals,
    draw_conditions,
    filter_crystals,
    read_disagreement,
    sample_crystals,
    train_generator,
    train_prior,
)
from matwheel.flywheel.trainers import BEST
from matwheel.models.checkpoints import load_weights
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.unpack import Provenance
from matwheel.writers import SAMPLES

_NOT_OF_FILTER = ("processes", "progress")
"""Settings of a filter's pool that its result does not depend on."""
_NOT_OF_PRIOR = ("vae", "vae_checkpoint", "sampler", "max_atoms_per_batch", "provenance")
"""Parts of a prior that its training does not depend on, or that are inputs of the stage."""


@dataclass(frozen=True)
class GeneratorRecipe:
    """How crystals are made by a trained generator.

    Attributes:
        generator: The conditional autoencoder, untrained; it is copied before use.
        prior: The latent prior around an untrained autoencoder; it is copied before use.
        generator_fit: How the autoencoder is trained.
        prior_fit: How the prior is trained, if it has weights to train.
        conditions: Which condition values are asked for.
        chunk_size: Crystals generated at a time.
        pretraining: What the autoencoder is trained on before; nothing if None.
    """

    generator: ConCDVAE
    prior: LatentPrior
    generator_fit: FitSettings
    prior_fit: FitSettings
    conditions: ConditionSampler
    chunk_size: int
    pretraining: Pretraining | None = None


@dataclass(frozen=True)
class GenerationSettings:
    """How synthetic crystals are made and chosen.

    Attributes:
        source: What makes them.
        filter: Which are used.
        ratio: Crystals made per real crystal they are made from, before filtering.
    """

    source: GeneratorRecipe | CrystalSource
    filter: Filter
    ratio: float


class Generation(ABC):
    """The stages that make the synthetic crystals of one round; each is run when its result is first asked for.

    Args:
        run: Runs the stages.
        settings: How.
        data: What the crystals are made from; its labels are the conditions.
        round: Turn of the wheel, from 1.
        suffix: Tells the stages from those of other generations.
        kept: Generation whose crystals are kept beside the new ones; none by default.
    """

    def __init__(
        self,
        run: Run,
        settings: GenerationSettings,
        data: CrystalDataModule,
        round: int,
        suffix: str = "",
        kept: Generation | None = None,
    ) -> None:
        self.run = run
        self.settings = settings
        self.data = data
        self.data_key = data_fingerprint(data)
        self.round = round
        self.suffix = suffix
        self.kept = kept

    @property
    @abstractmethod
    def samples(self) -> StageResult:
        """All that was made."""

    @cached_property
    def crystals(self) -> StageResult:
        """Those that passed the filter, after those that are kept."""
        samples, kept, filter, reduce_cells = self.samples, self.kept, self.settings.filter, self.data.reduce_cells

        def work(folder: Path, seed: int) -> dict[str, float]:
            made = CrystalTable.load(samples.folder / SAMPLES)
            earlier = kept.table if kept is not None else None
            return filter_crystals(filter, made, self.data.training_table, folder, earlier, reduce_cells)

        inputs = {"data": self.data_key, "samples": samples.key}
        if kept is not None:
            inputs["kept"] = kept.crystals.key
        config: Json = {"filter": describe(filter, skip=_NOT_OF_FILTER), "reduce_cells": reduce_cells}
        return self._stage("crystals", work, config, inputs, alone=True)

    @property
    def table(self) -> CrystalTable:
        """The synthetic crystals to use, with the conditions they were generated under as properties."""
        return CrystalTable.load(self.crystals.folder / CRYSTALS)

    @property
    def _count(self) -> int:
        """Crystals to make."""
        return max(round(self.settings.ratio * len(self.data.train_rows)), 1)

    def _stage(self, part: str, work: Work, config: Json, inputs: dict[str, str], alone: bool = False) -> StageResult:
        purpose = part if self.round == 1 else f"{part} round {self.round}"
        return self.run.stage(f"{part}{self.suffix}", work, config, inputs, purpose, alone)


class DerivedGeneration(Generation):
    """Crystals made from the training crystals without a generator.

    Args:
        source: Makes them.
        run: See `Generation`, as for all that follow.
        settings: The filter, and how many.
        data: The training crystals.
        round: Turn of the wheel.
        suffix: For names.
        kept: Earlier crystals.
    """

    def __init__(
        self,
        source: CrystalSource,
        run: Run,
        settings: GenerationSettings,
        data: CrystalDataModule,
        round: int,
        suffix: str = "",
        kept: Generation | None = None,
    ) -> None:
        super().__init__(run, settings, data, round, suffix, kept)
        self.source = source

    @cached_property
    def samples(self) -> StageResult:
        """All that the source made."""
        return self._stage(
            "samples",
            lambda folder, seed: derive_crystals(self.source, self.data, self._count, seed, self.round, folder),
            {"source": describe(self.source), "count": self._count},
            {"data": self.data_key},
            alone=True,
        )


class LearnedGeneration(Generation):
    """Crystals sampled from a generator that is trained on the real ones.

    Args:
        recipe: How.
        run: See `Generation`, as for all that follow.
        settings: The filter, and how many.
        data: What the generator is trained on.
        round: Turn of the wheel.
        suffix: For names.
        start: Generation from whose weights the training of generator and prior starts; untrained ones by default.
        kept: Earlier crystals.
        disagreement: Where teachers disagree (`write_disagreement`), for conditions that depend on it.
    """

    def __init__(
        self,
        recipe: GeneratorRecipe,
        run: Run,
        settings: GenerationSettings,
        data: CrystalDataModule,
        round: int,
        suffix: str = "",
        start: LearnedGeneration | None = None,
        kept: Generation | None = None,
        disagreement: StageResult | None = None,
    ) -> None:
        super().__init__(run, settings, data, round, suffix, kept)
        self.recipe = recipe
        self.start = start
        self.disagreement = disagreement

    @cached_property
    def pretrained(self) -> StageResult | None:
        """The autoencoder before it has seen a label; one for all generations, and the same for all splits."""
        recipe = self.recipe
        if recipe.pretraining is None:
            return None
        settings, data = recipe.pretraining.fit, recipe.pretraining.data(self.data)

        def work(folder: Path, seed: int) -> dict[str, float]:
            model = copy.deepcopy(recipe.generator)
            metrics = train_generator(model, data, settings, seed, folder, self.run.trainers)
            return {**data.left_out(), **metrics}

        config: Json = {"model": describe(recipe.generator), "fit": describe(settings)}
        return self.run.stage("pretraining", work, config, {"data": data_fingerprint(data)})

    @cached_property
    def generator(self) -> StageResult:
        """The trained autoencoder."""
        recipe = self.recipe
        start = self.start.generator if self.start is not None else self.pretrained

        def work(folder: Path, seed: int) -> dict[str, float]:
            model = copy.deepcopy(recipe.generator)
            if start is not None:
                load_weights(model, start.folder / BEST)
                model.start = None  # pre-training or the round before has begun with it
            return train_generator(model, self.data, recipe.generator_fit, seed, folder, self.run.trainers)

        config: Json = {"model": describe(recipe.generator), "fit": describe(recipe.generator_fit)}
        inputs = {"data": self.data_key}
        if start is not None:
            inputs["start"] = start.key
        return self._stage("generator", work, config, inputs)

    @cached_property
    def prior(self) -> StageResult:
        """The trained prior, whose checkpoint is the whole generator."""
        recipe, start = self.recipe, self.start

        def work(folder: Path, seed: int) -> dict[str, float]:
            model = copy.deepcopy(recipe.prior)
            if start is not None:
                load_weights(model, start.prior.folder / BEST)
            model.vae_checkpoint = self.generator.folder / BEST
            return train_prior(model, self.data, recipe.prior_fit, seed, folder, self.run.trainers)

        config: Json = {
            "model": describe(recipe.prior, skip=(*_NOT_OF_PRIOR, *recipe.prior.drawing)),
            "fit": describe(recipe.prior_fit),
        }
        inputs = {"data": self.data_key, "generator": self.generator.key}
        if start is not None:
            inputs["start"] = start.prior.key
        return self._stage("prior", work, config, inputs)

    @cached_property
    def conditions(self) -> StageResult:
        """What the generator is asked for."""
        sampler, disagreement = self.recipe.conditions, self.disagreement
        count = self._count
        is_class = self.recipe.generator.condition_embedding.is_class
        categorical = tuple(column for column, value in enumerate(is_class) if value)

        def work(folder: Path, seed: int) -> dict[str, float]:
            known = read_disagreement(disagreement.folder) if disagreement is not None else None
            return draw_conditions(sampler, self.data, categorical, count, seed, folder, known)

        config: Json = {"sampler": describe(sampler), "count": count, "categorical": list(categorical)}
        inputs = {"data": self.data_key}
        if disagreement is not None:
            inputs["disagreement"] = disagreement.key
        return self._stage("conditions", work, config, inputs, alone=True)

    @cached_property
    def samples(self) -> StageResult:
        """All that the generator made."""
        prior, conditions = self.prior, self.conditions

        def work(folder: Path, seed: int) -> dict[str, float]:
            model = copy.deepcopy(self.recipe.prior)
            load_weights(model, prior.folder / BEST)
            model.provenance = Provenance(model.weights_hash(), self.round)
            values = read_parquet(conditions.folder / CONDITIONS).to_numpy()
            return sample_crystals(model, values, self.recipe.chunk_size, seed, folder, self.run.trainers)

        given = self.recipe.prior
        config: Json = {"sampler": describe(given.sampler), **given.drawing}
        return self._stage("samples", work, config, {"prior": prior.key, "conditions": conditions.key})
