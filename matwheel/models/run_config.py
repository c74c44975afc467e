"""The model and the data of a run, from the config that was saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import yaml

from matwheel.data.module import CrystalDataModule
from matwheel.files import latest_log_folder

CONFIG = "config.yaml"
_Model = TypeVar("_Model", bound=L.LightningModule)


@dataclass(frozen=True)
class RunConfig:
    """What a run's config says of one of its models.

    Attributes:
        path: The file.
        model: `class_path` and `init_args` of the model.
        data: `class_path` and `init_args` of the data module that holds the crystals.
    """

    path: Path
    model: Mapping[str, Any]
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, generates: bool = False) -> RunConfig:
        """Read a config.

        Args:
            path: `config.yaml` of a run or of an exported model.
            generates: Whether the model is a generator. That of a flywheel is made of options of the callback.

        Raises:
            ValueError: If the file is not the config of a run.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{path} cannot be read as a config: {error}") from error
        if not isinstance(content, dict) or not {"model", "data"} <= set(content):
            raise ValueError(f"{path} is not the config of a run: it has no 'model' and 'data'")
        model, data = content["model"], content["data"]
        wheel = _flywheel(content)
        if generates and wheel is not None:
            prior = wheel.get("prior") or {"class_path": "matwheel.models.kernel_prior.KernelPrior"}
            model = {**prior, "init_args": {**prior.get("init_args", {}), "vae": wheel.get("generator")}}
        crystals = data.get("init_args", {}).get("crystals") if isinstance(data, dict) else None
        return cls(path, model, crystals if crystals is not None else data)

    def build_model(self, kind: type[_Model]) -> _Model:
        """The untrained model.

        Args:
            kind: What it must be. The config only names classes that fit the type of the option they are for.

        Raises:
            ValueError: If the config is of something else.
        """
        model: _Model = self._parse("model", self.model, kind, build=True)
        return model

    def data_options(self) -> Mapping[str, Any]:
        """Options of the data module, defaults filled in; the data need not exist here.

        Raises:
            ValueError: If the config names another kind of data module.
        """
        options: Mapping[str, Any] = vars(self._parse("data", self.data, CrystalDataModule, build=False).init_args)
        return options

    def _parse(self, name: str, section: Mapping[str, Any], kind: type, build: bool) -> Any:
        from jsonargparse import ArgumentError
        from lightning.pytorch.cli import LightningArgumentParser

        parser = LightningArgumentParser(exit_on_error=False)
        parser.add_lightning_class_args(kind, name, subclass_mode=True)
        try:
            options = parser.parse_object({name: section})
        except ArgumentError as error:
            raise ValueError(f"{self.path} is not the config of a {kind.__name__}: {error}") from error
        return parser.instantiate_classes(options)[name] if build else options[name]


def find_config(checkpoint: Path) -> Path:
    """Config of the run that made a checkpoint: beside it, a folder above it, or of the flywheel whose stage it is.

    Raises:
        ValueError: If there is none.
    """
    parents = list(checkpoint.resolve().parents)
    for folder in parents[:2]:
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    if len(parents) > 2 and parents[1].name == "stages":
        latest = latest_log_folder(parents[2], CONFIG)
        if latest is not None:
            return latest / CONFIG
    raise ValueError(
        f"no {CONFIG} beside {checkpoint} or a folder above it: copy the one of the run that made this checkpoint "
        "beside it, or give a folder that 'python -m matwheel.export' wrote"
    )


def _flywheel(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Options of the flywheel in a run's config."""
    callbacks = (content.get("trainer") or {}).get("callbacks") or []
    callbacks = [callbacks] if isinstance(callbacks, Mapping) else callbacks  # Lightning takes one by itself as well
    found = [c["init_args"] for c in callbacks if str(c.get("class_path")).endswith(".Flywheel")]
    return found[0] if found else None
