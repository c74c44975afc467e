"""The one place where commands of documents are made short: by options added at their end.

The commands themselves are run as they are written. Training takes one epoch of small networks, a few crystals stand
for a data set of the package, and studies show what they would run. Functions called in Python make a few, too.
"""

import re
from functools import partial

import pytest

from matwheel import api
from matwheel.data.catalogue import load
from matwheel.metrics.pool import Pool
from tests.test_cli import QUIET, SHORT, SMALL_FILTER, SMALL_WHEEL, TINY

FEW = "few/mp_poly_total.xyz"
"""A few crystals of the data set of that name."""
_WHEELS = {"full": SMALL_WHEEL, "semi": SMALL_WHEEL, "substitution": SMALL_FILTER, "jitter": SMALL_FILTER}
_CALL = re.compile(r"python -m (?P<module>[\w.]+)(?P<rest>[^;&|\n]*)")


def shortened(text: str) -> str:
    """Commands, each with what makes it take seconds."""
    return _CALL.sub(lambda call: " ".join([call[0].rstrip(), *_options(call["module"], call["rest"])]), text)


def shorten_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for `matwheel.api`."""
    sample = api.sample
    monkeypatch.setattr(api, "sample", lambda generator, values, n, seed: sample(generator, values, min(n, 4), seed))
    monkeypatch.setattr(api, "load", lambda _, **options: load(FEW, **options))
    monkeypatch.setattr(api, "Pool", partial(Pool, processes=1))


def _options(module: str, rest: str) -> list[str]:
    match module:
        case "matwheel.fit":
            return _fit_options(rest)
        case "matwheel.study" if "--dry-run" not in rest:
            return ["--dry-run"]
        case "matwheel.evaluate":
            return ["--reference", FEW, "--pool.processes", "1"]
        case _:
            return []


def _fit_options(rest: str) -> list[str]:
    configs = re.findall(r"(?:-c|--config) (?:\S*/)?(\w+)\.yaml", rest)
    options = [part for name in configs if (TINY / f"{name}.yaml").is_file() for part in ("-c", f"{TINY / name}.yaml")]
    options += SHORT if rest.split()[0] == "fit" else [*QUIET, "--trainer.accelerator", "cpu"]
    if "--data.dataset" not in rest.replace("--data.dataset mp_poly_total", "") and "requests" not in configs:
        data = "--data.crystals" if "prior" in configs else "--data"
        options += [f"{data}.dataset", FEW, f"{data}.target", "poly_total"]
    for name in set(configs) & set(_WHEELS):
        small = {"baselines": "[dummy,trees]", "synthetic_ratio": "0.5", **_WHEELS[name]}
        for option, value in small.items():
            if not _replaces(rest, option):
                options += [f"--trainer.callbacks.{option}", str(value)]
    return options


def _replaces(rest: str, option: str) -> bool:
    """Whether a command puts another class in the place of what has this option."""
    parts = option.split(".")
    return any(f"--trainer.callbacks.{'.'.join(parts[:end])} " in rest for end in range(1, len(parts)))
