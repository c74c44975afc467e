"""The command line: one LightningCLI for predictors, generators and the wheel."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import warnings
from argparse import RawDescriptionHelpFormatter
from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from jsonargparse import DefaultHelpFormatter, Namespace
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from torch import nn

# Classes can be named without their module in YAML and on the command line once they are imported.
import matwheel.flywheel.substitution
import matwheel.flywheel.verifier
import matwheel.models.diffusion_prior
import matwheel.models.kernel_prior
import matwheel.nn.chgnet_network
import matwheel.predictors.bonds
import matwheel.predictors.ensemble
import matwheel.predictors.layer_binding
import matwheel.predictors.network
import matwheel.predictors.stack
import matwheel.predictors.structure_features  # noqa: F401
from matwheel.command import QUIET
from matwheel.config_syntax import check_config
from matwheel.data.conditions import ConditionDataModule
from matwheel.data.module import CrystalDataModule
from matwheel.devices import trainer_accelerator, warn_of_slow_precision
from matwheel.files import RUN_RECORD, RUNS, SKIPPED_ROWS, VALIDATION_PREDICTIONS, write_text_atomically
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.end_screen import predictor_screen
from matwheel.flywheel.ledger import derive_seed
from matwheel.models.checkpoints import WholeCheckpoints, load_weights
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.training_progress import TrainingProgress
from matwheel.option_values import MODE, read_none_as_null
from matwheel.shipped_configs import given_configs, with_shipped_configs
from matwheel.user_errors import UserError
from matwheel.wandb_runs import hush_wandb, prepare_wandb
from matwheel.writers import PredictionWriter, StructureWriter

log = logging.getLogger(__name__)

_DESCRIPTION = """Train, validate and test predictors and generators, predict, and turn the flywheel.

examples:
  python -m matwheel.fit fit -c flywheel/full.yaml --data.dataset my.csv --data.target band_gap
  python -m matwheel.fit fit -c predictor/cgcnn.yaml --data.dataset my.csv --data.target band_gap
  python -m matwheel.fit test -c predictor/cgcnn.yaml --ckpt_path best.ckpt

The first is the flywheel, the others are single steps. -c takes configs of the package and your own."""
_OPTIONS = """The options of data, model and flywheel depend on the classes that the config names. These show them:
  python -m matwheel.fit fit --data.help CrystalDataModule
  python -m matwheel.fit fit --model.help PropertyPredictor
  python -m matwheel.fit fit --trainer.callbacks.help Flywheel"""
_PACKAGES = ("matwheel", "torch", "lightning", "torch-geometric", "numpy", "jsonargparse")


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Shows examples line by line."""


class RunRecord(SaveConfigCallback):
    """Saves what is needed to repeat a run in its log folder, beside the checkpoints, and in W&B where that is used.

    `config.yaml` (all options), `run.json` (command, versions, git commit), `split.json` (ids of each part of the data)
    and `skipped_rows.csv` (rows of the table that could not be used).
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the files, once per run."""
        is_first_call = not self.already_saved
        super().setup(trainer, pl_module, stage)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # all processes must ask together
        if not (is_first_call and trainer.is_global_zero):
            return
        packages = {name: version(name) for name in _PACKAGES}
        record = {
            "command": sys.argv,
            "versions": {"python": platform.python_version(), **packages},
            "commit": _git_commit(),
        }
        write_text_atomically(folder / RUN_RECORD, json.dumps(record, indent=1))
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, CrystalDataModule):
            if data.split_rows is not None:
                data.split_rows.save(folder / "split.json", data.table)
            if len(data.report):
                data.report.to_csv(folder / SKIPPED_ROWS)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give all options to W&B; called in the first process."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams({"options": yaml.safe_load(self.parser.dump(self.config))})

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave no log folder where a run fails before it has left anything, so that the mended command has its name.

        Mark a run that fails or is interrupted in W&B, which takes an end by `SystemExit` for a success.
        """
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger) and logger._experiment is not None and trainer.is_global_zero:
                with suppress(OSError):  # it holds something
                    Path(logger.log_dir).rmdir()
            if isinstance(logger, WandbLogger) and logger._experiment is not None:  # begins no run only to end it
                logger.experiment.finish(exit_code=1)


class MatWheelCLI(LightningCLI):
    """LightningCLI with a folder per run, metrics always in a CSV file, and seeded weights.

    Everything of a run lies in `runs/NAME`; each command adds a folder `version_K` with config, metrics and
    checkpoints. The initial weights of each module depend on the seed and the module alone, so that a change of one
    part of a run leaves the others as they were. What a checkpoint remembers of its settings never overrides the
    config.

    Args:
        args: Arguments instead of those of the process.
    """

    def __init__(self, args: ArgsType = None) -> None:
        read_none_as_null()
        super().__init__(
            save_config_callback=RunRecord,
            seed_everything_default=0,
            parser_kwargs={
                "prog": "python -m matwheel.fit",
                "description": f"{_DESCRIPTION}\n\n{_OPTIONS}",
                "parser_mode": MODE,
                "exit_on_error": False,
                **{name: {"epilog": _OPTIONS} for name in self.subcommands()},
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose help has the examples line by line."""
        return super().init_parser(formatter_class=_HelpFormatter, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the name of the run."""
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="Name of the run, whose files go to runs/NAME; by default made of the data set and the command. The "
            "same name continues an interrupted flywheel.",
        )
        parser.add_argument("--quiet", action="store_true", help=QUIET)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Commands, each with the trainer's arguments that are not options."""
        commands = LightningCLI.subcommands()
        commands["predict"].add("return_predictions")
        return {name: skipped | {"weights_only"} for name, skipped in commands.items()}  # nothing else is ever loaded

    def predict(self, **options: Any) -> None:
        """Predict without keeping what is predicted in memory: it is written to files."""
        self.trainer.predict(**options, return_predictions=False)

    def after_fit(self) -> None:
        """Show what has come out of a predictor, after the predictions of its validation rows, for intervals."""
        wheel = any(isinstance(callback, Flywheel) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        if wheel or self.trainer.interrupted:
            return
        if self.trainer.global_step == 0 and self.trainer.is_global_zero:
            epochs, steps = self.trainer.max_epochs, self.trainer.max_steps
            log.warning("nothing was trained: trainer.max_epochs is %s and trainer.max_steps %s", epochs, steps)
        checkpoints = self.trainer.checkpoint_callback
        if not isinstance(checkpoints, ModelCheckpoint) or not checkpoints.best_model_path:
            return
        if not isinstance(self.model, PropertyPredictor):
            return
        best = Path(checkpoints.best_model_path)
        writer = PredictionWriter(best.parent)
        writer.file = VALIDATION_PREDICTIONS
        self.trainer.callbacks.append(writer)  # type: ignore[attr-defined]
        load_weights(self.model, best)
        self.trainer.predict(self.model, dataloaders=self.datamodule.val_dataloader(), return_predictions=False)
        log_dir = self.trainer.log_dir  # all processes must ask together
        if self.trainer.is_global_zero:
            print(f"\n{predictor_screen(checkpoints, self.datamodule, log_dir)}")

    def _parse_ckpt_path(self) -> None:
        """Hyperparameters in a checkpoint must not silently beat what the user asks for."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the options; configs that are part of the package are found wherever the program is started."""
        given = sys.argv[1:] if args is None else args
        if isinstance(given, list):
            found = with_shipped_configs(given)
            options = [action.dest for parser in self._subcommand_parsers.values() for action in parser._actions]
            known = {*self.subcommands(), *(option.partition(".")[0] for option in options)}
            for config in given_configs(found):
                check_config(config, known)
            self.config = parser.parse_args(found)
        else:
            super().parse_arguments(parser, args)

    def before_instantiate_classes(self) -> None:
        """Name the run, and choose offline tracking where there is no account."""
        options = self._options()
        if options["quiet"]:
            options.trainer.enable_progress_bar = options.trainer.enable_model_summary = False
            for name in ("matwheel", "lightning.pytorch", "lightning.fabric"):
                logging.getLogger(name).setLevel(logging.WARNING)
        if self.subcommand != "fit":  # nothing is monitored that would have to be reloaded
            warnings.filterwarnings("ignore", message=".*The dirpath has changed.*")
        options["name"] = options["name"] or _default_name(str(self.subcommand), options)
        _check_name(options["name"])
        for logger in _as_list(options.trainer.logger):
            if isinstance(logger, Namespace) and logger.class_path.endswith("WandbLogger"):
                kind = "flywheel" if _wheels(options) else _class_name(options.model).lower()
                prepare_wandb(logger.init_args, options["name"], kind, _folder(options))
        seed = options["seed_everything"]
        if seed is not False:
            self.parser.add_instantiator(_SeededInstantiator(int(seed)), nn.Module, subclasses=True)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """A trainer that logs to the run's folder and, when predicting, writes what it predicts."""
        options = self._get(self.config_init, "trainer")
        folder = kwargs["default_root_dir"] = _folder(self._options())
        kwargs["logger"] = _with_csv(options.logger, folder)
        kwargs["accelerator"] = trainer_accelerator(options.accelerator)
        if options.devices == "auto" and TorchElasticEnvironment.detect():
            # Lightning would start from the number of accelerators, or one CPU, and then refuse to work.
            kwargs["devices"] = int(os.environ["LOCAL_WORLD_SIZE"])
            kwargs["num_nodes"] = int(os.environ["WORLD_SIZE"]) // kwargs["devices"]
        callbacks = _as_list(options.callbacks)
        if options.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks = [*callbacks, TrainingProgress()]
        if self.subcommand == "predict" and not any(isinstance(c, BasePredictionWriter) for c in callbacks):
            is_generator = isinstance(self.datamodule, ConditionDataModule)
            callbacks = [*callbacks, StructureWriter() if is_generator else PredictionWriter()]
        plugins = [*_as_list(options.plugins), WholeCheckpoints()]
        try:
            trainer = super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)
        except (MisconfigurationException, TypeError) as error:
            if _exist(kwargs["accelerator"], kwargs.get("devices", options.devices)):
                raise UserError(f"no trainer can be made: {error} Give the trainer another value") from error
            raise UserError(
                f"no trainer can be made with accelerator {options.accelerator!r} and devices {options.devices!r} on "
                f"this machine: {error} Leave both out to use what there is, or give --trainer.accelerator cpu"
            ) from error
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                hush_wandb(logger, folder, self._options()["quiet"])
        warn_of_slow_precision(trainer)
        # First of all the record, so that a run killed in the first stage of a wheel can be told from its folder.
        trainer.callbacks.sort(key=lambda callback: not isinstance(callback, RunRecord))  # type: ignore[attr-defined]
        return trainer

    def _options(self) -> Namespace:
        options: Namespace = self.config[self.subcommand]
        return options


class _SeededInstantiator:
    """Constructs each module under a seed of its own, from the run's seed, its class and how many came before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.made: Counter[str] = Counter()

    def __call__(self, class_type: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        name = f"{class_type.__module__}.{class_type.__qualname__}"
        number = self.made[name]
        self.made[name] += 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, f"{name} {number}"))
            return class_type(*args, **kwargs)


def _folder(options: Namespace) -> Path:
    """Where everything of a run lies: a trained model without its config beside it is of no use."""
    return Path(options.trainer.default_root_dir or RUNS / options["name"])


def _check_name(name: str) -> None:
    """Keep a run within the folder of runs, unless its name is a whole path, as those of studies elsewhere are."""
    path = Path(name)
    if ".." in path.parts and not path.is_absolute():
        raise ValueError(
            f"--name {name!r} may lead out of the folder {RUNS}: leave '..' out, or put the run elsewhere with "
            "--trainer.default_root_dir"
        )


def _exist(accelerator: Any, devices: Any) -> bool:
    """Whether this machine has them, so that a trainer which cannot be made fails for another reason."""
    try:
        L.Trainer(accelerator=accelerator, devices=devices, logger=False)
    except (MisconfigurationException, TypeError, ValueError):
        return False
    return True


def _with_csv(configured: Any, folder: Path) -> list[Logger]:
    """The configured loggers, led by a CSVLogger: config and checkpoints are put into the first logger's folder."""
    loggers = [logger for logger in _as_list(configured) if isinstance(logger, Logger)]
    tables = [logger for logger in loggers if isinstance(logger, CSVLogger)]
    others = [logger for logger in loggers if not isinstance(logger, CSVLogger)]
    return [*(tables or [CSVLogger(folder.parent, name=folder.name)]), *others]


def _default_name(subcommand: str, options: Namespace) -> str:
    """DATASET-flywheel and what tells its kind from others, or DATASET-MODEL and, except for fit, the command."""
    data = options.get("data")
    wheels = _wheels(options)
    if subcommand == "fit" and wheels:
        of_data = data.init_args if data is not None else {}
        is_semi = of_data.get("labelled_fraction", 1.0) < 1 or of_data.get("use_unlabelled", False)
        source = wheels[0].init_args.get("source")
        kind = ["flywheel", "semi" if is_semi else "", _class_name(source) if source is not None else ""]
    else:
        kind = [_class_name(options.model), subcommand if subcommand != "fit" else ""]
    return "-".join(part for part in (_dataset(data), *kind) if part).lower()


def _wheels(options: Namespace) -> list[Namespace]:
    return [callback for callback in _as_list(options.trainer.callbacks) if _class_name(callback) == "Flywheel"]


def _class_name(configured: Namespace) -> str:
    return str(configured.class_path).rsplit(".", 1)[-1]


def _dataset(data: Namespace | None) -> str:
    """Name of the data set in the options of a data module or of the one inside it."""
    options = data.get("init_args") if data is not None else None
    if options is None:
        return ""
    if "crystals" in options:
        return _dataset(options.crystals)
    return Path(str(options.get("dataset", ""))).stem


def _as_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _git_commit() -> str | None:
    """Commit of the working tree this package is imported from; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
