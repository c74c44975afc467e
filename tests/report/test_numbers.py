import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.report.numbers import MINUS, NONE, number, p_value, signed


@given(st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-300))
def test_numbers_keep_their_digits(value: float) -> None:
    read = float(number(value).replace(MINUS, "-"))
    assert read == pytest.approx(value, rel=6e-4)
    assert signed(value)[0] in f"0{'+' if value > 0 else MINUS}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(676193319.0, "676193319"), (0.000123456, "0.0001235"), (-2.5, f"{MINUS}2.5"), (math.inf, "inf")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_nan_is_a_dash() -> None:
    assert number(math.nan) == signed(math.nan) == p_value(math.nan) == NONE


def test_p_values() -> None:
    assert p_value(0.0001) == "< 0.001"
    assert p_value(0.0432) == "= 0.043"
