"""A trained model from its files, and as a folder that one can carry: weights and config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning as L
import yaml

from matwheel.checkpoint_file import read_checkpoint
from matwheel.files import STAGE, VALIDATION_PREDICTIONS, latest_log_folder, write_text_atomically
from matwheel.models.checkpoints import MODEL_CLASS, load_state
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.run_config import CONFIG, RunConfig, find_config
from matwheel.weights_file import write_weights

WEIGHTS = "model.safetensors"
FITTED_SUFFIX = ".skops"
FITTED = f"predictor{FITTED_SUFFIX}"
"""A predictor that is no network, see `matwheel.predictors.predictor_file`."""
_LAST = "last.ckpt"
_BEST = "checkpoints/best.ckpt"  # in a log folder
_PATHS = ("vae_checkpoint", "start")  # options of models that name weights, which are read when a fit begins
_KEPT = (
    "target",
    "conditions",
    "split",
    "labelled_fraction",
    "use_unlabelled",
    "reduce_cells",
    "max_sites",
    "cutoff",
    "max_neighbours",
)  # options of the data: what the model was trained on and how its graphs are made
_NAMED = {
    "PropertyPredictor": ("a predictor", "python -m matwheel.predict takes it"),
    "LatentPrior": ("a generator", "python -m matwheel.sample takes it"),
    "ConCDVAE": (
        "the autoencoder of a generator alone",
        "give the checkpoint of its prior, such as stages/prior/best.ckpt of a flywheel",
    ),
}
"""By class: what it is to a person, and what to do with its checkpoint where it is not wanted."""
_Model = TypeVar("_Model", bound=L.LightningModule)


@dataclass(frozen=True)
class TrainedModel(Generic[_Model]):
    """A model with its weights, and where they are from.

    Attributes:
        path: The file with the weights.
        checkpoint: Its content.
        config: That of the run that made it.
        model: In evaluation mode.
    """

    path: Path
    checkpoint: Mapping[str, Any]
    config: RunConfig
    model: _Model

    @classmethod
    def load(cls, path: Path, kind: type[_Model], config: Path | None = None) -> TrainedModel[_Model]:
        """Read a model; nothing in its files is executed.

        Args:
            path: Checkpoint, or exported weights.
            kind: What it must be.
            config: `config.yaml` of the run; found by `find_config` by default.

        Raises:
            ValueError: If a file cannot be read, or is of something else, or the weights do not fit the config.
        """
        content = read_checkpoint(path)
        made_by = content.get(MODEL_CLASS, kind.__name__)
        if made_by != kind.__name__:
            what, mend = what_it_is(made_by)
            raise ValueError(f"{path} is {what}, not {what_it_is(kind.__name__)[0]}: {mend}")
        described = RunConfig.read(config or find_config(path), generates=issubclass(kind, LatentPrior))
        model = described.build_model(kind)
        load_state(model, content, path)
        return cls(path, content, described, model.eval())

    @property
    def validation_predictions(self) -> Path | None:
        """Predictions of the validation rows, beside the model; None without them, or where they may be another's."""
        path = self.path.with_name(VALIDATION_PREDICTIONS)
        others = {file.name for file in self.path.parent.glob("*.ckpt")} - {self.path.name, _LAST}
        return path if path.is_file() and self.path.name != _LAST and not others else None

    def write(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.yaml`, which `load` reads. The config names no folders."""
        data = self.config.data_options()
        kept = {name: value for name, value in self.config.data.get("init_args", {}).items() if name in _KEPT}
        content = {
            "model": _without_paths(self.config.model),
            "data": {
                "class_path": self.config.data["class_path"],
                "init_args": {"dataset": Path(data["dataset"]).name, **_without_folders(kept)},
            },
        }
        write_weights(folder / WEIGHTS, self.checkpoint)
        write_text_atomically(folder / CONFIG, yaml.safe_dump(content, sort_keys=False))


def what_it_is(kind: str | None) -> tuple[str, str]:
    """What the checkpoint of a class of models is to a person, and what to do with it where it is not wanted."""
    return _NAMED.get(str(kind), (f"a checkpoint of {kind or 'an unknown model'}", "give another"))


def model_files(path: Path) -> list[Path]:
    """Files with the weights of the models that a path stands for.

    Args:
        path: A checkpoint, another file of a model, an exported folder or one of a stage, or a folder with several of
            either (except `last.ckpt`, which is there to continue a training).

    Raises:
        ValueError: If there are none.
    """
    if not path.is_dir():
        return [path]
    for name in (WEIGHTS, FITTED):
        if (path / name).is_file():
            return [path / name]
    checkpoints = [file for file in path.glob("*.ckpt") if file.name != _LAST]
    stages = [file.parent for pattern in (f"*/{STAGE}", f"*/*/{STAGE}") for file in path.glob(pattern)]
    if trained := sorted(str(s.relative_to(path)) for s in stages if (s / FITTED).is_file() or any(s.glob("*.ckpt"))):
        raise ValueError(
            f"{path} holds the stages of a run, whose models are of many arms: name one of {', '.join(trained)} in it"
        )
    found = sorted([*path.glob(f"*/{WEIGHTS}"), *path.glob(f"*/{FITTED}"), *checkpoints])
    if not found:
        logs = latest_log_folder(path, _BEST)
        hint = f"; did you mean {logs / _BEST}?" if logs is not None else ""
        raise ValueError(
            f"{path} holds no model: give a checkpoint (.ckpt), a folder with {WEIGHTS} and {CONFIG}, or one with "
            f"{FITTED}{hint}"
        )
    return found


def model_file(path: Path) -> Path:
    """The file with the weights of the one model that a path stands for, see `model_files`.

    Raises:
        ValueError: If there is none, or there are several.
    """
    files = model_files(path)
    if len(files) > 1:
        raise ValueError(f"{path} holds {len(files)} models: name one, for example {files[0]}")
    return files[0]


def _without_folders(options: Any) -> Any:
    """The same with the file of a split by its name alone."""
    if isinstance(options, Mapping):
        return {
            name: Path(value).name if name == "path" and value is not None else _without_folders(value)
            for name, value in options.items()
        }
    return options


def _without_paths(options: Any) -> Any:
    if isinstance(options, Mapping):
        return {name: None if name in _PATHS else _without_paths(value) for name, value in options.items()}
    return options
