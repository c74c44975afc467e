"""The predictor that the documents show."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from matwheel.data.targets import TargetTransform
from matwheel.models.trained import FITTED
from matwheel.predictors.predictor import Labelled
from matwheel.predictors.predictor_file import About, read_predictor, write_predictor
from tests.models.toys import toy_crystals
from tests.predictors.fitting import context

DOCUMENT = Path(__file__).parents[2] / "docs" / "predictors.md"


def test_the_example_learns_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    module = types.ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(code, vars(module))
    names = vars(module)
    table = toy_crystals(20)
    known = Labelled(table, table.properties["dielectric"], np.ones(20))
    fitted = names["Neighbours"]().fit(known, known, context(tmp_path))
    np.testing.assert_array_equal(fitted(table), known.target)  # of these rows the nearest one is itself
    transform = TargetTransform()
    transform.fit(torch.from_numpy(known.target))
    write_predictor(tmp_path / FITTED, fitted, About.here("neighbours", "dielectric", True, transform))
    np.testing.assert_array_equal(read_predictor(tmp_path / FITTED)[0](table), known.target)
