"""Tables on the generator of a run: what was asked for, what was valid, what the filters left, what a judge found."""

from __future__ import annotations

import math

from matwheel.files import METRICS, read_json
from matwheel.flywheel.ledger import read_stages
from matwheel.flywheel.names import round_suffix
from matwheel.flywheel.stages import FILTER_REPORT
from matwheel.metrics.figures import Figure, figure_cells
from matwheel.report.folders import RunFolder
from matwheel.report.numbers import NONE, number
from matwheel.report.page_tables import PageTable


def generator_tables(run: RunFolder, round: int) -> list[PageTable]:
    """The tables that the files of a round allow.

    Raises:
        ValueError: If a file is damaged.
    """
    return [*_samples(run, round), *_filter(run, round), *_evaluations(run, round)]


def _samples(run: RunFolder, round: int) -> list[PageTable]:
    record = read_stages(run.path).get(f"samples{round_suffix(round)}")
    if record is None or "count" not in record.metrics:
        return []
    count = record.metrics["count"]
    shares = [(name, value) for name, value in record.metrics.items() if name != "count"]
    lines = [("samples", number(count), ""), *((n, number(v * count), f"{100 * v:.1f} %") for n, v in shares)]
    caption = f"What the generator made in {number(record.seconds, 3)} s."
    return [PageTable(("", "crystals", "share"), lines, caption=caption)]


def _filter(run: RunFolder, round: int) -> list[PageTable]:
    path = run.stage("crystals", round) / FILTER_REPORT
    if not path.is_file():
        return []
    lines = [
        (
            step["name"],
            str(step["before"]),
            str(step["after"]),
            NONE if step["rate"] is None else f"{100 * step['rate']:.1f} %",
        )
        for step in read_json(path)
    ]
    return [PageTable(("filter", "before", "after", "passed"), lines, caption="What the filters left.")]


def _evaluations(run: RunFolder, round: int) -> list[PageTable]:
    """What `python -m matwheel.evaluate` found, where it wrote beside the samples, as it does by default."""
    tables = []
    for path in sorted(run.stage("samples", round).glob(f"*/{METRICS}")):
        content = read_json(path)
        figures = [Figure(**{**figure, "value": _number(figure["value"])}) for figure in content["figures"]]
        caption = f"Evaluation of {content['generated']['source']} against {content['reference']['source']}."
        lines = [figure_cells(figure) for figure in figures]
        tables.append(PageTable(("metric", "value", "count", "of", ""), lines, caption=caption))
    return tables


def _number(value: float | None) -> float:
    """JSON has no NaN."""
    return math.nan if value is None else value
