import copy
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
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
