"""The flywheel: a callback that turns the fit of one predictor into a comparison with and without synthetic data."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from matwheel.data.module import CrystalDataModule
from matwheel.flywheel.agreement import LabelAgreement
from matwheel.flywheel.arms import ArmName, Scenario
from matwheel.flywheel.conditions import ConditionSampler, KernelDensity
from matwheel.flywheel.end_screen import SYNTHETIC, end_screen
from matwheel.flywheel.filters import BasicFilter, Filter, NoCrystalLeftError
from matwheel.flywheel.generation import GenerationSettings, GeneratorRecipe
from matwheel.flywheel.interruption import interruptible
from matwheel.flywheel.labels import ConditionLabels, Labeller, PredictorLabels
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.plan import planned_stages
from matwheel.flywheel.predictor_pretraining import PredictorPretraining
from matwheel.flywheel.pretraining import Pretraining
from matwheel.flywheel.processes import Processes
from matwheel.flywheel.recipe import recipe_of
from matwheel.flywheel.references import Baseline, Reuse
from matwheel.flywheel.results import ResultRow
from matwheel.flywheel.run import Run
from matwheel.flywheel.sources import CrystalSource
from matwheel.flywheel.stages import FitSettings, PredictorRecipe
from matwheel.flywheel.tracking import differences
from matwheel.flywheel.trainers import StageTrainers, quiet, seed_all
from matwheel.flywheel.turn import TurnSettings
from matwheel.flywheel.wheel import Wheel
from matwheel.models.averaging import replace_averages
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.predictors.predictor import Predictor
from matwheel.progress import Steps, hidden_progress
from matwheel.writers import describe_samples, write_extxyz

_DEFAULT_FIT = FitSettings()


class Flywheel(Callback):
    """Generates crystals from the training set and measures whether they help the predictor of this trainer.

    When the trainer starts to fit, the wheel trains the generator and its latent prior on the real training crystals,
    samples new ones under conditions like the training labels, filters and labels them, and trains copies of the
    trainer's model on each mixture (`arms`), on the trainer's hardware and with its settings and callbacks. All arms
    start from the same weights and seed, choose their checkpoint on the same validation rows and are tested on the same
    rows. The seed is the one of `seed_everything`. Finished stages are skipped when the run is repeated, an interrupted
    one continues. The trainer itself has no epoch left to fit: its model gets the weights of the last arm, in the round
    in which they are best on the validation rows, and its data module the synthetic crystals.

    Where the data hide labels (`labelled_fraction` below 1) or have crystals without one (`use_unlabelled`), the
    scenario is the semi-supervised one: a teacher trained on the labelled crystals gives all training crystals a label
    before the generator learns from them. Hidden labels are not looked at, save by the arm `S+G_true`, which there is
    only if all are known; conditions other than the target must be known of all crystals.

    Args:
        generator: The conditional autoencoder; needed unless there is a `source`.
        prior: Makes the latent prior of an autoencoder.
        generator_fit: How the autoencoder is trained.
        prior_fit: How the prior is trained, if it has weights to train.
        conditions: Which condition values are asked for; distributed as the generator's training labels by default.
        source: Makes the crystals in place of a trained generator, as the baseline that one must beat: ion substitution
            or strain and jitter of the training crystals. `generator`, `prior`, their training and `conditions` are not
            used then: the conditions of a crystal are the values of its parent.
        filter: Which synthetic crystals are used; valid ones without copies by default.
        agreement: On which of these the teaching predictors must agree; not asked by default.
        labeller: Where the labels of synthetic crystals come from; the condition by default.
        pseudo_labeller: Where the labels of unlabelled real crystals come from; the teaching predictors by default.
        num_teachers: Predictors, trained under different seeds, whose mean teaches where predictors label.
        synthetic_ratio: Crystals generated per real crystal the generator was trained on, before filtering.
        synthetic_weight: Weight of a synthetic crystal in the predictor's loss; a real one has 1.
        chunk_size: Crystals generated at a time.
        pretraining: Crystals of other data sets that the autoencoder learns from first, without their labels; needs a
            condition embedding with `dropout`. None by default.
        predictor_pretraining: Labels of other data sets that the predictor learns from first, once for all arms and
            teachers; needs a network that is a `TransferNetwork`, as those of this package are. None by default.
        arms: What predictors are trained on, all but those with `then` by default. The real crystals (`F`), these
            repeated to the number of `F+G_F` (`F x k`), the synthetic ones (`G_F`), both (`F+G_F`), first the synthetic
            and then the real ones (`G_F then F`). Semi-supervised, the same of the labelled crystals (`S`) with a
            generator trained on the teacher's labels (`G_S`), and two controls: labelled and teacher-labelled real
            crystals without a generator (`S+P`), and a generator trained on the true labels of all (`S+G_true`). The
            last arm in the list teaches the next round, and the trainer's model gets its weights.
        predictors: Further predictors, each fitted to what every arm is trained on: `FeaturePredictor`, `Ensemble`,
            `Stack` or one's own (see `Predictor`). Arms with `then` are for networks and not theirs. None by default.
        baselines: Reference predictors: training median (`dummy`), trees on composition and cell (`trees`).
        reuse: Further predictors of the labelled real crystals, with what the generator has learnt: trees that know its
            latents (`latents`), its encoder fine-tuned (`encoder`). None by default.
        rounds: Turns of the wheel. Each begins with the last arm of the one before as teacher.
        patience: Stop after so many rounds without a lower validation error of the last arm; never by default.
        continue_generator: Start generator and prior of a round from the weights of the round before.
        keep_crystals: Add the synthetic crystals of a round to those of the rounds before instead of replacing them.
        folder: Folder of the run; the trainer's `default_root_dir` by default.
    """

    def __init__(
        self,
        generator: ConCDVAE | None = None,
        prior: Callable[[ConCDVAE], LatentPrior] = KernelPrior,
        generator_fit: FitSettings = _DEFAULT_FIT,
        prior_fit: FitSettings = _DEFAULT_FIT,
        conditions: ConditionSampler | None = None,
        source: CrystalSource | None = None,
        filter: Filter | None = None,
        agreement: LabelAgreement | None = None,
        labeller: Labeller | None = None,
        pseudo_labeller: Labeller | None = None,
        num_teachers: int = 1,
        synthetic_ratio: float = 1.0,
        synthetic_weight: float = 1.0,
        chunk_size: int = 64,
        pretraining: Pretraining | None = None,
        predictor_pretraining: PredictorPretraining | None = None,
        arms: Sequence[ArmName] | None = None,
        predictors: Sequence[Predictor] = (),
        baselines: Sequence[Baseline] = ("dummy", "trees"),
        reuse: Sequence[Reuse] = (),
        rounds: int = 1,
        patience: int | None = None,
        continue_generator: bool = False,
        keep_crystals: bool = False,
        folder: Path | None = None,
    ) -> None:
        if generator is None and source is None:
            raise ValueError("the flywheel needs a generator, or a source of crystals instead")
        if source is not None and continue_generator:
            raise ValueError("there is no generator to continue: a source makes the crystals")
        if source is not None and reuse:
            raise ValueError("there is no generator to reuse: a source makes the crystals")
        if min(synthetic_ratio, synthetic_weight) <= 0:
            raise ValueError(
                f"synthetic_ratio ({synthetic_ratio}) and synthetic_weight ({synthetic_weight}) must be positive"
            )
        if arms is not None and not arms:
            raise ValueError("the flywheel needs at least one arm to train")
        if min(rounds, num_teachers, 1 if patience is None else patience) < 1:
            raise ValueError(
                f"rounds ({rounds}), num_teachers ({num_teachers}) and patience ({patience}) must be at least 1"
            )
        if pretraining is not None and generator is None:
            raise ValueError("there is no generator to pre-train: a source makes the crystals")
        if pretraining is not None and generator is not None and not generator.condition_embedding.dropout:
            raise ValueError(
                "pre-training is without conditions: give the generator's condition_embedding a dropout, such as 0.1"
            )
        self.generator = generator
        self.prior = prior
        self.generator_fit = generator_fit
        self.prior_fit = prior_fit
        self.conditions = conditions if conditions is not None else KernelDensity()
        self.source = source
        self.agreement = agreement
        self.filter = filter if filter is not None else BasicFilter()
        self.labeller = labeller if labeller is not None else ConditionLabels()
        self.pseudo_labeller = pseudo_labeller if pseudo_labeller is not None else PredictorLabels()
        self.num_teachers = num_teachers
        self.synthetic_ratio = synthetic_ratio
        self.synthetic_weight = synthetic_weight
        self.chunk_size = chunk_size
        self.pretraining = pretraining
        self.predictor_pretraining = predictor_pretraining
        self.arms = None if arms is None else tuple(arms)
        self.predictors = tuple(predictors)
        self.baselines = tuple(baselines)
        self.reuse = tuple(reuse)
        self.rounds = rounds
        self.patience = patience
        self.continue_generator = continue_generator
        self.keep_crystals = keep_crystals
        self.folder = folder
        self._wheel: Wheel | None = None
        self._max_epochs: int | None = None
        self._silence = ExitStack()

    @property
    def results(self) -> list[ResultRow]:
        """What is known so far, as in `results.csv`."""
        return self._wheel.results if self._wheel is not None else []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Run all stages and give the trainer their outcome."""
        if stage != "fit":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, CrystalDataModule):
            raise ValueError("the flywheel needs a CrystalDataModule")
        recipe = recipe_of(trainer, self)
        folder = self.folder if self.folder is not None else Path(trainer.default_root_dir)
        ledger = Ledger(folder, Processes.of(trainer)).__enter__()
        try:
            run = Run(ledger, StageTrainers(trainer), int(os.environ.get("PL_GLOBAL_SEED", 0)))
            with interruptible(trainer), hidden_progress(trainer.progress_bar_callback is None):
                self._wheel = self._make_wheel(run, data, pl_module, recipe)
                ledger.steps = Steps(planned_stages(self._wheel))
                self._spin(trainer, self._wheel)
            synthetic = self._wheel.synthetic
            if run.is_first and synthetic is not None:
                described, labels = describe_samples(synthetic), {data.target: synthetic.properties[data.target]}
                write_extxyz(folder / SYNTHETIC, synthetic, described, labels)
                run.trainers.tracker.log_table("synthetic_crystals", described.assign(**labels))
            data.use_training(None, synthetic, self.synthetic_weight)
        except BaseException:
            ledger.__exit__()
            raise
        self._silence.enter_context(quiet())  # of a fit of no epoch there is nothing to say
        self._max_epochs = trainer.max_epochs
        trainer.fit_loop.max_epochs = 0
        trainer.num_sanity_val_steps = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the model the weights of the last arm, and log the errors of all."""
        assert self._wheel is not None
        self._wheel.load_best(pl_module)
        replace_averages(trainer, pl_module)
        for row in self.results:
            is_named_by_arm = row.predictor in (row.arm, self._wheel.own_predictor)
            name = row.arm if is_named_by_arm else f"{row.arm} {row.predictor}"
            errors = {f"test_mae/{name}": row.test_mae, f"val_mae/{name}": row.val_mae}
            for logger in trainer.loggers:
                logger.log_metrics(errors, step=row.round)
        self._wheel.run.trainers.tracker.log_summary(differences(self.results, self._wheel.scenario))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report."""
        assert self._wheel is not None
        _print(trainer, self._wheel)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let another process work in the run's folder."""
        self._release()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let another process work in the run's folder."""
        self._release()
        if stage == "fit" and self._max_epochs is not None:
            trainer.fit_loop.max_epochs = self._max_epochs

    def _make_wheel(
        self, run: Run, data: CrystalDataModule, model: L.LightningModule, recipe: PredictorRecipe
    ) -> Wheel:
        if "encoder" in self.reuse and not isinstance(model, PropertyPredictor):
            raise ValueError(f"reuse of the encoder needs a PropertyPredictor as the model, not {type(model).__name__}")

        scenario = Scenario(data)
        arms = self.arms if self.arms is not None else scenario.default_arms
        source = self.source if self.source is not None else self._generator_recipe(run)
        if self.predictor_pretraining is not None:
            model = self.predictor_pretraining.pretrained(run, scenario.known, model)
        settings = TurnSettings(
            generation=GenerationSettings(source, self.filter, self.synthetic_ratio),
            model=copy.deepcopy(model),
            recipe=recipe,
            agreement=self.agreement,
            labeller=self.labeller,
            pseudo_labeller=self.pseudo_labeller,
            num_teachers=self.num_teachers,
            synthetic_weight=self.synthetic_weight,
            continue_generator=self.continue_generator,
            keep_crystals=self.keep_crystals,
            last_arm=arms[-1],
        )
        return Wheel(
            run, scenario, settings, arms, self.predictors, self.baselines, self.reuse, self.rounds, self.patience
        )

    def _generator_recipe(self, run: Run) -> GeneratorRecipe:
        assert self.generator is not None
        seed_all(run.seed_for("prior weights"))
        return GeneratorRecipe(
            generator=self.generator,
            prior=self.prior(copy.deepcopy(self.generator)),
            generator_fit=self.generator_fit,
            prior_fit=self.prior_fit,
            conditions=self.conditions,
            chunk_size=self.chunk_size,
            pretraining=self.pretraining,
        )

    def _spin(self, trainer: L.Trainer, wheel: Wheel) -> None:
        try:
            wheel.spin()
        except NoCrystalLeftError:
            _print(trainer, wheel)
            raise

    def _release(self) -> None:
        self._silence.close()
        if self._wheel is not None:
            self._wheel.run.ledger.__exit__()


def _print(trainer: L.Trainer, wheel: Wheel) -> None:
    """Show the outcome in the first process."""
    log_dir = trainer.log_dir  # all processes must ask together
    if wheel.run.is_first:
        print(f"\n{end_screen(wheel, Path(log_dir) if log_dir is not None else None)}")
