import math

import numpy as np
import pytest

from matwheel.metrics.errors import prediction_errors


def test_figures_of_an_example() -> None:
    found = prediction_errors(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    assert found == pytest.approx((1 / 3, math.sqrt(1 / 3), 0.5))


def test_targets_that_do_not_vary_have_no_coefficient_of_determination() -> None:
    assert math.isnan(prediction_errors(np.full(3, 0.1), np.array([0.1, 0.2, 0.3])).r2)
    assert all(map(math.isnan, prediction_errors(np.zeros(0), np.zeros(0))))
