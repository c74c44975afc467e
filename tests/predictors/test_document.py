"""The predictor that the documents show."""

import re
from pathlib import Path

import numpy as np

from matwheel.predictors.predictor import Labelled
from tests.models.toys import toy_crystals
from tests.predictors.fitting import context

DOCUMENT = Path(__file__).parents[2] / "docs" / "predictors.md"


def test_the_example_learns(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, type] = {}
    exec(code, names)
    table = toy_crystals(20)
    known = Labelled(table, table.properties["dielectric"], np.ones(20))
    fitted = names["Neighbours"]().fit(known, known, context(tmp_path))
    np.testing.assert_array_equal(fitted(table), known.target)  # of these rows the nearest one is itself
