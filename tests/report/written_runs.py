"""Run folders written by hand, with all that a report reads."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel.data.catalogue import load
from matwheel.data.crystal import CrystalTable
from matwheel.files import PREDICTIONS
from matwheel.flywheel.labels import write_labels
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.results import ResultRow, write_results
from matwheel.flywheel.rounds import RoundRow, write_rounds
from matwheel.writers import write_samples

ERRORS = {"dummy": 9.0, "trees": 5.0, "F": 6.0, "F x k": 5.8, "G_F": 8.0, "F+G_F": 6.2}
ROW = ResultRow(
    "mp_poly_total", "poly_total", "full", "F", "CGCNN", "RandomSplit-0", 0, 0, 8, 0, 6.0, 9.0, 0.1, 6.0, 1.0
)
BASELINES = ("dummy", "trees")


def full_rows(
    split: str = "RandomSplit-0", shift: float = 0.0, mixed: float = 6.2, **changes: object
) -> list[ResultRow]:
    """A row for each arm and baseline of one split."""
    return [
        replace(
            ROW,
            arm=arm,
            predictor=arm if arm in BASELINES else "CGCNN",
            split=split,
            round=0 if arm in (*BASELINES, "F") else 1,
            n_real=0 if arm == "G_F" else 8,
            n_synthetic=5 if "G_F" in arm else 0,
            test_mae=(mixed if arm == "F+G_F" else error) + shift,
            **changes,
        )
        for arm, error in ERRORS.items()
    ]


def write_run(folder: Path, rows: list[ResultRow], ids: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> Path:
    """A finished run with one round, 8 labelled training crystals and 5 synthetic ones.

    Args:
        folder: Where to.
        rows: Its results.
        ids: Ids of the first synthetic crystals.
        command: The command that it was made by.
    """
    real = load("mp_poly_total").table
    training, target = real.take(range(8)), rows[0].target
    names = np.array([*ids, *(f"syn-{number}" for number in range(5))][:5])
    origin = {"seed": 3, "conditions": {target: 12.5}, "generator": "0" * 64, "round": 1}
    synthetic = CrystalTable(
        **{
            **real.take(range(10, 15)).__dict__,
            "ids": names,
            "origins": np.array([json.dumps({**origin, "index": number}) for number in range(5)]),
            "properties": {},
        }
    )

    def samples(stage: Path) -> dict[str, float]:
        write_samples(stage, synthetic, cif=False)
        return {"count": 5.0, "valid": 0.8}

    def crystals(stage: Path) -> dict[str, float]:
        synthetic.save(stage / "crystals.npz")
        steps = [
            {"name": "structure", "before": 6, "after": 5, "rate": 5 / 6},
            {"name": "novel", "before": 5, "after": 5},
        ]
        (stage / "filter.json").write_text(json.dumps([{"rate": None, **step} for step in steps]))
        return {}

    with Ledger(folder) as ledger:
        for row in rows:
            stage = f"baseline-{row.arm}" if row.arm in BASELINES else f"predictor-{row.arm.replace(' ', '_')}"
            ledger.run(stage, partial(_predictions, row.test_mae), {}, {}, 0)
        ledger.run("samples", samples, {}, {}, 0)
        ledger.run("crystals", crystals, {}, {}, 0)
        ledger.run("labels", lambda stage: write_labels(stage, synthetic, np.arange(5.0) + 4), {}, {}, 0)
    write_results(folder / "results.csv", rows)
    first = RoundRow(*_names(rows[0]), 0, 0, 6.0, 6.0, 0.0, 4.0, 10.0, 30.0, 1.2, 0.3)
    write_rounds(folder / "rounds.csv", [first, replace(first, arm=rows[-1].arm, round=1, n_synthetic=5)])
    version = folder / "version_0"
    version.mkdir()
    split = {
        "train": training.ids.tolist(),
        "val": [],
        "test": real.ids[20:22].tolist(),
        "labelled": training.ids.tolist(),
    }
    (version / "split.json").write_text(json.dumps(split))
    record = {"command": ["/somewhere/matwheel/fit.py", *command], "versions": {"python": "3.11"}, "commit": "abc123"}
    (version / "run.json").write_text(json.dumps(record))
    (version / "config.yaml").write_text("seed_everything: 0\n")
    return folder


def write_study(folder: Path, columns: dict[str, list[object]], rows: list[ResultRow]) -> Path:
    """The table of a study: further columns in front, sizes of the split behind."""
    folder.mkdir(parents=True)
    frame = pd.DataFrame([vars(row) for row in rows])
    sizes = {"train_rows": 80, "test_rows": 20}
    pd.DataFrame({**columns, **frame, **{k: [v] * len(rows) for k, v in sizes.items()}}).to_csv(
        folder / "results.csv", index=False
    )
    return folder


def _names(row: ResultRow) -> tuple[str, str, str, str, str, int]:
    return row.dataset, row.target, row.scenario, row.arm, row.split, row.seed


def _predictions(error: float, stage: Path) -> dict[str, float]:
    target = np.array([2.0, 25.0, 250.0])
    frame = pd.DataFrame({"id": list("abc"), "prediction": target + np.array([error, -error, error]), "target": target})
    frame.to_csv(stage / PREDICTIONS, index=False)
    return {}
