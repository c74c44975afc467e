"""Numbers as text in sentences and tables of pages."""

from __future__ import annotations

import math

from matwheel.data.catalogue import unit_of

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
_SMALL_P = 0.001
_LARGEST = 1e15  # whole numbers up to here are written out: seeds and counts


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, whole numbers with all; a dash for NaN."""
    if math.isnan(value):
        return NONE
    whole = value == round(value) and abs(value) < _LARGEST if math.isfinite(value) else False
    text = f"{value:.0f}" if whole else f"{value:.{digits}g}"
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A number that always shows its sign."""
    return number(value, digits) if value <= 0 or math.isnan(value) else f"+{number(value, digits)}"


def with_unit(text: str, unit: str) -> str:
    """A number and its unit, if it has one."""
    return f"{text} {unit}" if unit else text


def p_value(value: float) -> str:
    """A p-value with the sign that belongs before it; a dash for NaN."""
    return NONE if math.isnan(value) else f"< {_SMALL_P:g}" if value < _SMALL_P else f"= {number(value, 2)}"


def unit_in_text(dataset: str, target: str) -> str:
    """Unit of a property; empty where it is not known or there is none."""
    unit = unit_of(dataset, target)
    return "" if unit == "dimensionless" else unit
