"""Predictions from trained models alone: `python -m matwheel.predict --help`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from matwheel.command import command
from matwheel.data.inputs import read_structures
from matwheel.data.rows import RowReport
from matwheel.data.tables import WRITTEN_HERE
from matwheel.devices import DEVICE_HELP, find_device
from matwheel.files import (
    PREDICTIONS,
    VALIDATION_PREDICTIONS,
    check_output,
    check_writable,
    replaced_when_complete,
    skipped_beside,
)
from matwheel.predictors.saved_ensemble import PredictorEnsemble

log = logging.getLogger(__name__)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of those of the process.
    """
    with command(_parser(), args) as options:
        _run(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m matwheel.predict",
        description="Predict a property of crystals with a trained model, in the unit it was trained in. With several "
        "models the prediction is their mean, and their standard deviation is in the column 'spread'. An interval is "
        "calibrated on the validation rows of the training, if these were kept.",
    )
    parser.add_argument(
        "trained",
        metavar="MODEL",
        type=Path,
        help="Checkpoint (.ckpt) of a predictor, the folder of a flywheel's stage with predictor.skops, a folder that "
        "'python -m matwheel.export' wrote, or a folder with several of these.",
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        type=Path,
        nargs="+",
        help="Crystals: CIF or POSCAR files, folders of them, tables (CSV, JSON, Parquet) or extended XYZ.",
    )
    parser.add_argument(
        "--structure_column",
        type=str | None,
        default=None,
        help="Column of tables with the structures, where there are several; found by itself by default.",
    )
    parser.add_argument(
        "--id_column",
        type=str | None,
        default=None,
        help="Column of tables with the names of crystals; found by itself by default.",
    )
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="Further models of the same property.")
    parser.add_argument(
        "--interval",
        type=float | None,
        default=None,
        help="Probability with which the true value shall lie between the columns 'low' and 'high', such as 0.9.",
    )
    parser.add_argument("--device", type=str, default="auto", help=DEVICE_HELP)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(PREDICTIONS),
        help="Table to write, NAME.csv or NAME.parquet; rows that cannot be used are listed beside it in "
        "NAME_skipped.csv.",
    )
    return parser


def _run(options: Namespace) -> None:
    out: Path = options.out
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"cannot write {out}: name a .csv or a .parquet file as --out")
    skipped = skipped_beside(out)
    for path in (out, skipped):
        check_output(path, options.inputs)
    if out.name == VALIDATION_PREDICTIONS:
        raise ValueError(
            f"{VALIDATION_PREDICTIONS} is what training leaves beside a model, to calibrate intervals by: name another "
            "file as --out"
        )
    if skipped.exists() and not (skipped.is_file() and RowReport.is_csv(skipped)):
        raise ValueError(
            f"{skipped} is no list of skipped rows and would be replaced by one: name another file as --out"
        )
    if not {path.name for path in (out, skipped) if path.suffix == ".csv"} <= WRITTEN_HERE:
        for path in options.inputs:
            if path.is_dir() and path.resolve() == out.resolve().parent:
                raise ValueError(f"a table in {path} would be taken for the names of its crystals: write it elsewhere")
    if out.is_dir():
        raise ValueError(f"{out} is a folder: name a file in it as --out")
    check_writable(out.parent)
    device = find_device(options.device)
    models = PredictorEnsemble.load([options.trained, *options.model]).to(device)
    crystals = read_structures(options.inputs, structure_column=options.structure_column, id_column=options.id_column)
    if crystals.report.bad:
        log.warning("%s", crystals.report.summary())
        crystals.report.to_csv(skipped, crystals.files if len(options.inputs) > 1 else ())
    else:
        skipped.unlink(missing_ok=True)  # of an earlier call with this output
    predictions = models.predict(crystals, options.interval)
    if len(options.inputs) > 1:
        predictions.insert(1, "source", [crystals.files[row] for row in crystals.source_rows])
    _write(predictions, out)
    print(f"wrote {len(crystals)} predictions of {models.target or 'the property'} to {out}")


def _write(predictions: pd.DataFrame, path: Path) -> None:
    with replaced_when_complete(path) as temporary:
        if path.suffix == ".parquet":
            predictions.to_parquet(temporary, index=False)
        else:
            predictions.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
