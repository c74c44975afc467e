"""The help of the commands: every option is explained, with its unit and its default."""

import importlib
import re
import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from matwheel.data.conditions import ConditionDataModule
from matwheel.data.module import CrystalDataModule
from matwheel.diffusion.samplers import AnnealedLangevin, DenoisingSampler
from matwheel.flywheel.callback import Flywheel
from matwheel.flywheel.filters import BasicFilter
from matwheel.flywheel.pretraining import UnlabelledDataModule
from matwheel.flywheel.stages import FitSettings
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.models.diffusion_prior import DiffusionPrior
from matwheel.models.kernel_prior import KernelPrior
from matwheel.models.latents import LatentDataModule
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN
from matwheel.nn.painn import PaiNNDecoder, PaiNNEncoder

MODULES = ["evaluate", "predict", "sample", "export", "study", "report.__main__", "report.__main__ structures"]
CLASSES = [
    *(CrystalDataModule, ConditionDataModule, LatentDataModule, UnlabelledDataModule),
    *(PropertyPredictor, ConCDVAE, KernelPrior, DiffusionPrior, CGCNN, PaiNNEncoder, PaiNNDecoder),
    *(Flywheel, FitSettings, BasicFilter, DenoisingSampler, AnnealedLangevin),
]
NUMBERS = re.compile(r"\b(A|A\^3|eV/A|s|[Dd]egrees|minutes|unit|units|fingerprints|Fractional|How many|Steps)\b")
"""Words of which one must explain a number that is not whole."""


class _FoundParser(Exception):
    """Carries the parser out of a command."""


@pytest.fixture(params=MODULES)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ArgumentParser:
    """The parser of a command."""

    def stop(self: ArgumentParser, args: object = None, **_: object) -> None:
        raise _FoundParser(self)

    module, *args = request.param.split()
    monkeypatch.setattr(ArgumentParser, "parse_args", stop)
    with pytest.raises(_FoundParser) as found:
        importlib.import_module(f"matwheel.{module}").main(args)
    return found.value.args[0]


def test_every_option_is_explained(parser: ArgumentParser) -> None:
    for action in parser._actions:
        text = str(action.help or "")
        assert len(text) > 8, action.dest
        assert text.endswith(".") or action.dest == "help", (action.dest, text)


def test_numbers_have_units(parser: ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action.default, float):
            assert NUMBERS.search(action.help), (action.dest, action.help)


def test_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for module in MODULES:
        name, *args = module.split()
        with pytest.raises(SystemExit) as stop:
            importlib.import_module(f"matwheel.{name}").main([*args, "--help"])
        assert stop.value.code == 0
        assert "usage: python -m matwheel." in capsys.readouterr().out


def test_the_package_lists_its_commands_and_imports_none() -> None:
    code = "import runpy, sys; sys.argv[1:] = []\ntry: runpy.run_module('matwheel', run_name='__main__')\n"
    code += "finally: print(sorted(name for name in sys.modules if name.startswith(('torch', 'matwheel.'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *commands, imported = done.stdout.splitlines()[1:]
    assert imported == "[]"
    named = [line.split()[2].removeprefix("matwheel.") for line in commands]
    assert sorted(named) == sorted({"fit", *(name.split(".")[0].split()[0] for name in MODULES)})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_options_of_classes_are_explained(kind: type) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "part")
    options = [action for action in parser._actions if action.dest.startswith("part.")]
    assert options
    for action in options:
        assert len(str(action.help or "")) > 8, action.dest
