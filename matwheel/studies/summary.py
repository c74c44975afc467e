"""The statistics of a study as text."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from matwheel.flywheel.results import COLUMNS
from matwheel.report.table import align
from matwheel.studies.statistics import REFERENCES

_HEADER = ("arm", "predictor", "round", "splits", "test MAE")


def format_statistics(table: pd.DataFrame) -> str:
    """A table for each combination of data set, scenario and other axes.

    Args:
        table: What `statistics` returns.
    """
    names = list(table.columns[: table.columns.get_loc("arm")])
    blocks = []
    for _, group in table.groupby(names, sort=False, dropna=False):
        first = group.iloc[0]
        title = ", ".join(str(first[name]) if name in COLUMNS else f"{name} {first[name]}" for name in names)
        real = next((arm for arm in REFERENCES if arm in set(group["arm"])), "real alone")
        header = (*_HEADER, f"less {real}", "p", "wins", f"less {REFERENCES.get(real, 'control')}", "p", "wins")
        lines = [_line(row) for _, row in group.iterrows()]
        blocks.append(f"{title}\n{align(header, lines, names=2)}")
    note = (
        "Differences are paired by split, negative where the arm is better, with a 95 % interval (a bootstrap, too "
        "narrow for few splits)."
    )
    return "\n\n".join([*blocks, note])


def _line(row: pd.Series[Any]) -> tuple[str, ...]:
    error = f"{row['test_mae']:.4g}" + (f" +- {row['test_mae_std']:.2g}" if row["splits"] > 1 else "")
    return (
        str(row["arm"]),
        str(row["predictor"]),
        str(row["round"]),
        str(row["splits"]),
        error,
        *_difference(row, "vs_real"),
        *_difference(row, "vs_control"),
    )


def _difference(row: pd.Series[Any], name: str) -> tuple[str, str, str]:
    if math.isnan(row[name]):
        return "", "", ""
    low, high, p = (row[f"{name}_{part}"] for part in ("low", "high", "p"))
    interval = "" if math.isnan(low) else f" [{low:+.3g}, {high:+.3g}]"
    wins = f"{row[f'{name}_wins']:.0f}/{row[f'{name}_n']:.0f}"
    return f"{row[name]:+.3g}{interval}", "" if math.isnan(p) else f"{p:.2g}", wins
