"""What a page tells of one run: predictions, rounds, synthetic crystals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from matwheel.data.crystal import CrystalTable
from matwheel.files import PREDICTIONS
from matwheel.flywheel.end_screen import SYNTHETIC
from matwheel.flywheel.rounds import RoundRow, read_rounds
from matwheel.flywheel.wheel import ROUNDS
from matwheel.metrics.drift import element_frequencies
from matwheel.report.comparison import chosen_round
from matwheel.report.crystals import SyntheticCrystals, real_crystals, synthetic_crystals
from matwheel.report.figures.distributions import distribution_overlay
from matwheel.report.figures.drift import drift_plot
from matwheel.report.figures.elements import element_bars
from matwheel.report.figures.parity import parity_plot
from matwheel.report.figures.style import spans_decades
from matwheel.report.folders import RunFolder, reference_name
from matwheel.report.gallery import Gallery, GalleryItem
from matwheel.report.generator_tables import generator_tables
from matwheel.report.numbers import number, unit_in_text
from matwheel.report.page_tables import PageTable
from matwheel.report.picture import Picture

_SHOWN_CRYSTALS = 24
_ROUNDING = 1e-4  # relative difference of an error from that of the predictions in single precision


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        notes: Sentences below it.
        tables: Tables below these.
        pictures: Pictures below these.
        gallery: Crystals below these.
    """

    title: str
    notes: list[str] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    gallery: list[GalleryItem] = field(default_factory=list)


def run_sections(run: RunFolder, gallery: Gallery) -> list[Section]:
    """All that the files of a run allow to tell; what is not there (yet) is left out.

    Args:
        run: The run, with at least one row of results.
        gallery: Takes the drawings of its crystals.

    Raises:
        ValueError: If a file is damaged.
    """
    target, round = run.rows[0].target, max(chosen_round(run.rows), 1)
    sections = [_predictions(run, round), *_rounds(run)]
    synthetic = synthetic_crystals(run, target, round)
    if synthetic is not None:
        sections.append(_synthetic(run, synthetic, round))
        sections.append(_crystals(run, synthetic, gallery))
    return [s for s in sections if s.notes or s.tables or s.pictures or s.gallery]


def _predictions(run: RunFolder, round: int) -> Section:
    """Parity plots of the arms of a round and of the arms without one."""
    shown, notes = [], []
    own = next((row.predictor for row in run.rows if reference_name(row) is None), "")
    for row in run.rows:
        path = run.predictions(row) / PREDICTIONS
        if row.arm == "dummy" or row.round not in (0, round) or not path.is_file():
            continue
        name = reference_name(row) or (row.arm if row.predictor == own else f"{row.arm}, {row.predictor}")
        frame = pd.read_csv(path)
        target, predicted = (frame[name].to_numpy(np.float64) for name in ("target", "prediction"))
        error = float(np.abs(predicted - target).mean())
        if not np.isclose(error, row.test_mae, rtol=_ROUNDING, atol=0):
            notes.append(
                f"{name} has no parity plot: the MAE of the {len(frame)} predictions in {path} is {number(error)}, "
                f"that in the results {number(row.test_mae)}, so that they are not those of the test crystals."
            )
            continue
        shown.append((row, name, target, predicted))
    # One scale for all, which are looked at side by side: a single prediction below zero must not tell them apart.
    logarithmic = spans_decades(np.concatenate([values for plot in shown for values in plot[2:]] or [np.zeros(0)]))
    pictures = []
    for row, name, target, predicted in shown:
        unit = unit_in_text(row.dataset, row.target)
        figure = parity_plot(target, predicted, name, row.target, unit, logarithmic)
        caption = f"{len(target)} test crystals, MAE {number(row.test_mae)}, R² {number(row.test_r2, 3)}."
        alt = f"Parity plot of {name}: predicted over true {row.target} of {caption}"
        pictures.append(Picture(f"parity {run.name} {name}", caption, alt, figure))
    return Section("Predictions of test crystals", notes, pictures=pictures)


def _rounds(run: RunFolder) -> list[Section]:
    """Errors and drift from round to round, where there are several."""
    rows = read_rounds(run.path / ROUNDS) if (run.path / ROUNDS).is_file() else []
    if len(rows) < 2:
        return []
    unit = unit_in_text(rows[0].dataset, rows[0].target)
    alt = f"Errors, labels and drift of {run.name} by round: " + "; ".join(
        f"round {row.round}: test MAE {number(row.test_mae)}, element drift {number(row.element_drift, 3)}"
        for row in rows
    )
    picture = Picture(f"rounds {run.name}", "Round 0 are the real training crystals.", alt, drift_plot(rows, unit))
    pictures = [picture] if len(rows) > 2 else []  # a line from real crystals to one round says no more than the table
    return [Section("Rounds and drift", tables=[_rounds_table(rows)], pictures=pictures)]


def _rounds_table(rows: list[RoundRow]) -> PageTable:
    header = ("round", "arm", "synthetic", "val MAE", "test MAE", "element drift", "label 5 %", "50 %", "95 %")
    lines = [
        (
            str(row.round),
            row.arm,
            str(row.n_synthetic),
            number(row.val_mae),
            number(row.test_mae),
            number(row.element_drift, 3),
            *(number(value) for value in (row.label_q05, row.label_q50, row.label_q95)),
            number(row.diversity, 3),
            number(row.nearest_training, 3),
        )
        for row in rows
    ]
    caption = (
        "Element drift: Jensen-Shannon distance of element frequencies to the real training crystals, 0 to 1; "
        "diversity and nearest real: mean distances between compositions."
    )
    return PageTable((*header, "diversity", "nearest real"), lines, names=2, caption=caption)


def _synthetic(run: RunFolder, synthetic: SyntheticCrystals, round: int) -> Section:
    """How synthetic crystals were made, and how they differ from real ones."""
    notes = []
    real: CrystalTable | None = None
    try:
        real = real_crystals(run)
    except ValueError as error:  # the data set need not be on this machine: the rest of the page does not need it
        notes.append(f"The real training crystals are not shown for comparison: {error}")
    target = synthetic.target
    labels = {"real training labels": real.properties[target]} if real is not None else {}
    if len(synthetic.requested):
        labels["requested"] = synthetic.requested
    labels["synthetic labels"] = synthetic.labels
    sets = {"real": real, "synthetic": synthetic.table} if real is not None else {"synthetic": synthetic.table}
    frequencies = {name: element_frequencies(table) for name, table in sets.items() if table is not None}
    medians = ", ".join(f"{name} {number(float(np.median(values)))}" for name, values in labels.items())
    pictures = [
        Picture(
            f"labels {run.name}",
            f"Distribution of {target}; medians: {medians}.",
            f"Histograms of {target}; medians: {medians}",
            distribution_overlay(labels, target, unit_in_text(run.rows[0].dataset, target)),
        ),
        Picture(
            f"elements {run.name}",
            "The most frequent elements; every crystal counts alike.",
            f"Bars: frequency of elements in {' and '.join(frequencies)} crystals",
            element_bars(frequencies),
        ),
    ]
    title = "Synthetic crystals" if round == 1 else f"Synthetic crystals of round {round}"
    return Section(title, notes, generator_tables(run, round), pictures)


def _crystals(run: RunFolder, synthetic: SyntheticCrystals, gallery: Gallery) -> Section:
    """Some of the crystals, spread evenly over their labels so that nobody chose the pretty ones."""
    count = min(_SHOWN_CRYSTALS, len(synthetic.table))
    order = np.argsort(synthetic.labels, kind="stable")
    shown = synthetic.table.take(order[np.linspace(0, len(order) - 1, count).round().astype(int)])
    notes = [
        f"{count} of the {len(synthetic.table)} synthetic crystals that a predictor was trained on, spread evenly over "
        "their labels."
    ]
    if (run.path / SYNTHETIC).is_file():
        notes.append(f"All of them: python -m matwheel.report structures {run.path / SYNTHETIC}")
    return Section("Gallery", notes, gallery=gallery.add(shown))
