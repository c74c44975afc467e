import copy
import hashlib
import re
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from operator import itemgetter
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from torch import nn

from matwheel.flywheel.fingerprint import describe, fingerprint


@dataclass
class Settings:
    width: int = 3
    rates: tuple[float, ...] = (0.1, 0.2)


class Network(nn.Module):
    def __init__(self, width: int = 4, cutoff: float = 5.0) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.settings = Settings(width)
        self.layers = nn.Sequential(nn.Linear(3, width), nn.SiLU())
        self.register_buffer("scale", torch.ones(2))


def _seeded(**options: float) -> Network:
    torch.manual_seed(0)
    return Network(**options)


def test_equal_objects_have_equal_fingerprints() -> None:
    assert fingerprint(describe(_seeded())) == fingerprint(describe(_seeded()))
    assert fingerprint(describe(copy.deepcopy(_seeded()))) == fingerprint(describe(_seeded()))


def test_every_part_of_a_module_counts() -> None:
    reference = fingerprint(describe(_seeded()))
    changed = [_seeded(cutoff=6.0), _seeded(width=5), _seeded(), _seeded(), _seeded()]
    with torch.no_grad():
        changed[2].layers[0].bias[0] += 1e-6
    changed[3].scale[1] = 2
    changed[4].layers[1] = nn.ReLU()
    hashes = {fingerprint(describe(module)) for module in changed}
    assert len(hashes) == 5
    assert reference not in hashes


def test_mode_and_gradients_do_not_count() -> None:
    used = _seeded().eval()
    used.layers(torch.ones(1, 3)).sum().backward()
    assert describe(used) == describe(_seeded())


def test_skipped_names_do_not_count() -> None:
    assert describe(_seeded(cutoff=6.0), skip=("cutoff",)) == describe(_seeded(), skip=("cutoff",))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Settings(3), Settings(4)),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        (np.arange(3), np.arange(3.0)),
        (np.arange(4).reshape(2, 2), np.arange(4)),
        (np.zeros((0, 2)), np.zeros((0, 3))),
        (EarlyStopping("val/mae", patience=3), EarlyStopping("val/mae", patience=4)),
        (EMAWeightAveraging(decay=0.99), EMAWeightAveraging(decay=0.9)),
        (partial(Settings, width=3), partial(Settings, width=4)),
        (nn.ReLU, nn.GELU),
        (1, "1"),
    ],
    ids=["field", "order", "dtype", "shape", "empty", "early stopping", "averaging", "partial", "class", "type"],
)
def test_settings_count(one: object, other: object) -> None:
    assert fingerprint(describe(one)) == fingerprint(describe(copy.deepcopy(one)))
    assert fingerprint(describe(one)) != fingerprint(describe(other))


def test_objects_that_contain_themselves() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    assert describe(loop) == [1, "(contains itself)"]


def test_same_in_another_process() -> None:
    code = (
        "import torch; from tests.flywheel.test_fingerprint import _seeded; "
        "from matwheel.flywheel.fingerprint import describe, fingerprint; "
        "print(fingerprint(describe({'network': _seeded(), 'names': {'b', 'a', 'c'}})))"
    )
    expected = fingerprint(describe({"network": _seeded(), "names": {"c", "b", "a"}}))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == expected


def test_functions_without_a_name_are_told_apart() -> None:
    different = [torch.relu, torch.tanh, range(3), range(5), lambda x: x, lambda x: 2 * x, lambda x: [y for y in x]]
    assert len({fingerprint(describe(one)) for one in different}) == len(different)
    code = "from matwheel.flywheel.fingerprint import *; print(fingerprint(describe(lambda x: [y for y in (x, 2)])))"
    found = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert found[0].stdout == found[1].stdout


def test_hyperparameters_count() -> None:
    class Model(L.LightningModule):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert describe(Model(0.1)) == describe(Model(0.1))
    assert describe(Model(0.1)) != describe(Model(0.2))


def test_files_are_what_is_in_them(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.ckpt", "b.ckpt", "missing.ckpt")]
    for path in paths[:2]:
        path.write_text("weights")
    assert describe(paths[0]) == describe(paths[1])
    before = describe(paths[0])
    paths[0].write_text("others")
    assert describe(paths[0]) != before
    assert describe(paths[2]) == str(paths[2])


class Slotted:
    __slots__ = ("_hidden", "width")

    def __init__(self, width: int) -> None:
        self.width = width


class Bare:
    pass


class Both(Bare):
    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        self.depth, self.name = depth, "both"


VALUES = {
    "bytes": (b"ab", b"ac"),
    "bytearray": (bytearray(b"ab"), bytearray(b"ac")),
    "complex": (1 + 2j, 2 + 1j),
    "timedelta": (timedelta(hours=1), timedelta(hours=2)),
    "datetime": (datetime(2026, 1, 1), datetime(2026, 1, 2)),
    "decimal": (Decimal("0.1"), Decimal("0.2")),
    "slice": (slice(None, 2), slice(2, None)),
    "pattern": (re.compile(f"{'a' * 300}b"), re.compile(f"{'a' * 300}c")),
    "flags": (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "deque": (deque([1, 2]), deque([2, 1])),
    "longest": (deque([1], 2), deque([1], 3)),
    "getter": (itemgetter("a"), itemgetter("b")),
    "slots": (Slotted(3), Slotted(4)),
    "slots beside attributes": (Both(3), Both(4)),
    "generator": (np.random.default_rng(0), np.random.default_rng(1)),
    "time stamp": (pd.Timestamp(0), pd.Timestamp(1)),
    "texts": (np.array(["a", "b"]), np.array(["a", "c"])),
    "records": (np.array([(1, 2.0)], "i4,f8"), np.array([(1, 3.0)], "i4,f8")),
    "layout": (torch.strided, torch.sparse_coo),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_without_attributes_count(name: str) -> None:
    one, other = VALUES[name]
    assert describe(one) == describe(copy.deepcopy(one))
    assert fingerprint(describe({"setting": one})) != fingerprint(describe({"setting": other}))


def test_values_that_cannot_be_seen_are_refused() -> None:
    for obj in (threading.Lock(), (number for number in range(3)), memoryview(b"a")):
        with pytest.raises(ValueError, match=f"holds a .*{type(obj).__name__}, of which cannot be told"):
            describe(Settings(obj))


def test_descriptions_are_those_of_finished_stages() -> None:
    """They are parts of the keys of stages: where they change, finished stages are made anew."""
    here = __name__
    settings = {"class": f"{here}.Settings", "width": 3, "rates": [0.1, 0.2]}
    plain = [None, True, 1, 0.5, "text", {"a": (1, 2)}, {"b", "a"}, torch.float32, Path("none")]
    assert describe(Settings()) == settings
    assert describe(partial(Settings, width=4)) == {"partial": [f"{here}.Settings", [], {"width": 4}]}
    assert describe(_seeded) == {"function": f"{here}._seeded", "closure": [], "code": None}
    assert describe(Settings().__eq__) == {"method": "Settings.__eq__", "of": settings}
    assert describe(plain) == [None, True, 1, 0.5, "text", {"a": [1, 2]}, ["a", "b"], "torch.float32", "none"]
    ones = {"shape": [2], "dtype": "torch.float32", "sha256": hashlib.sha256(np.ones(2, "f4").tobytes()).hexdigest()}
    assert describe(torch.ones(2)) == describe(np.ones(2, "f4")) == ones
    assert describe(nn.Identity()) == {"class": "torch.nn.modules.linear.Identity"}
    assert describe(Bare()) == {"class": f"{here}.Bare"}
