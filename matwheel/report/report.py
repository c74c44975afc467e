"""The report on runs and studies: the answer first, then what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matwheel.report.answer import answer
from matwheel.report.comparison import Comparison, compare
from matwheel.report.comparison_pictures import curve_pictures, forest_picture, summary_pictures
from matwheel.report.folders import Folders, RunFolder, read_folders
from matwheel.report.gallery import Gallery
from matwheel.report.page import in_words, render
from matwheel.report.page_tables import PageTable, arms_table, differences_table, rows_table
from matwheel.report.picture import Picture
from matwheel.report.provenance import Provenance, read_provenance
from matwheel.report.run_sections import Section, run_sections

_SHOWN_RUNS = 6
"""Runs of which a page shows all; more make it too large to open on a phone."""


@dataclass(frozen=True)
class Report:
    """A page and its pictures.

    Attributes:
        html: The page.
        pictures: All pictures in it, in order.
        answer: What it begins with.
    """

    html: str
    pictures: list[Picture]
    answer: list[str]


@dataclass(frozen=True)
class _ComparisonPart:
    title: str
    tables: list[PageTable]
    pictures: list[Picture]


@dataclass(frozen=True)
class _RunPart:
    name: str
    sections: list[Section]
    provenance: Provenance


def make_report(paths: Sequence[Path]) -> Report:
    """Read folders of runs or studies and tell what they show.

    Args:
        paths: The folders.

    Raises:
        ValueError: If there are no results, or a file is damaged.
    """
    folders = read_folders(paths)
    comparisons = compare(folders.measurements)
    gallery = Gallery()
    overview = [*summary_pictures(comparisons), *curve_pictures(comparisons)]
    settings = [_comparison_part(comparison) for comparison in comparisons]
    shown = [run for run in folders.runs if run.rows][:_SHOWN_RUNS]
    parts = [_run_part(run, gallery) for run in shown]
    sentences = answer(comparisons)
    html = render(
        "report.html",
        f"Report on {in_words([path.resolve().name for path in paths])}",
        gallery,
        answer=sentences,
        reading=_how_to_read(comparisons),
        overview=overview,
        comparisons=settings,
        all_rows=rows_table(folders.measurements),
        runs=parts,
        left_out=_left_out(folders, shown),
    )
    in_settings = (picture for setting in settings for picture in setting.pictures)
    in_runs = (picture for part in parts for section in part.sections for picture in section.pictures)
    return Report(html, [*overview, *in_settings, *in_runs], sentences)


def _comparison_part(comparison: Comparison) -> _ComparisonPart:
    differences = differences_table(comparison)
    tables = [arms_table(comparison), *([differences] if differences.lines else [])]
    picture = forest_picture(comparison)
    return _ComparisonPart(comparison.setting.title, tables, [picture] if picture is not None else [])


def _run_part(run: RunFolder, gallery: Gallery) -> _RunPart:
    return _RunPart(run.name, run_sections(run, gallery), read_provenance(run))


def _how_to_read(comparisons: Sequence[Comparison]) -> list[str]:
    """What the names and numbers mean."""
    texts = [
        "dummy is the median of the training labels, trees are extremely randomised trees on composition and cell. "
        "Synthetic crystals helped only if the arm with both kinds of crystals is better than real crystals alone and "
        "better than the control, in which real crystals are repeated to the same size.",
    ]
    if any(comparison.has_rounds for comparison in comparisons):
        texts.append("Of several rounds, the one with the lowest validation error of the last arm is shown.")
    return texts


def _left_out(folders: Folders, shown: Sequence[RunFolder]) -> str:
    rest = len(folders.runs) - len(shown)
    if not rest:
        return ""
    return (
        f"{rest} further runs are in the tables above but not shown one by one. Name the folder of a run to see it: "
        f"python -m matwheel.report {folders.runs[-1].path}"
    )
