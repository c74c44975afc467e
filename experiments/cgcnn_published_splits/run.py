"""CGCNN, trees and the training median on the five published splits of two data sets.

Run from the repository root: `python experiments/cgcnn_published_splits/run.py --data-dir FOLDER`, where FOLDER holds
`NAME.json.gz` and `NAME.moe_splits.json` of both data sets. The recipe is `configs/predictor/cgcnn.yaml`, unchanged.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel import fit
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.files import RUNS, log_folders
from matwheel.flywheel.fits import fit as fit_predictor
from matwheel.flywheel.references import BASELINES
from matwheel.flywheel.trainers import StageTrainers
from matwheel.predictors.predictor import Fitting

HERE = Path(__file__).parent
CONFIG = "configs/predictor/cgcnn.yaml"
DATASETS = {"jarvis_2d_exfoliation": "exfoliation_en", "mp_poly_total": "poly_total"}


def errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    residual = predicted - truth
    r2 = 1 - np.square(residual).sum() / np.square(truth - truth.mean()).sum()
    return {"test_mae": np.abs(residual).mean(), "test_rmse": np.sqrt(np.square(residual).mean()), "test_r2": r2}


def reference_rows(data_dir: Path, dataset: str, split: FileSplit) -> list[dict]:
    data = CrystalDataModule(dataset, data_dir=data_dir, split=split)
    data.prepare_data()
    data.setup("fit")
    target, context = data.table.properties[data.target], Fitting(split.index, HERE, StageTrainers())
    train, val, test = data.train_rows, data.val_rows, data.test_rows
    rows = []
    for name, predictor in BASELINES.items():
        start = time.perf_counter()
        predicted = fit_predictor(predictor, data, context)(data.table)
        val_mae = np.abs(predicted[val] - target[val]).mean()
        seconds = time.perf_counter() - start
        rows.append(
            {"predictor": name, "n_real": len(train), "val_mae": val_mae, **errors(predicted[test], target[test])}
            | {"seconds": seconds}
        )
    return rows


def cgcnn_row(data_dir: Path, dataset: str, split: FileSplit) -> dict:
    name = f"cgcnn_published_splits/{dataset}-{split.index}"
    options = ["-c", CONFIG, "--name", name, "--seed_everything", str(split.index)]
    options += ["--data.dataset", dataset, "--data.data_dir", str(data_dir), "--data.split", "FileSplit"]
    options += ["--data.split.path", str(split.path), "--data.split.index", str(split.index)]
    options += ["--trainer.enable_progress_bar", "false"]
    start = time.perf_counter()
    fit.main(["fit", *options])
    seconds = time.perf_counter() - start
    fitted = log_folders(RUNS / name)[-1]
    fit.main(["test", *options, "--ckpt_path", str(fitted / "checkpoints" / "best.ckpt")])
    tested = pd.read_csv(log_folders(RUNS / name)[-1] / "metrics.csv").iloc[-1]
    val_mae = pd.read_csv(fitted / "metrics.csv")["val/mae"].min()
    row = {key: tested[key.replace("_", "/")] for key in ("test_mae", "test_rmse", "test_r2")}
    return {"predictor": "cgcnn", "val_mae": val_mae, **row, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir.resolve()
    rows = []
    for dataset, target in DATASETS.items():
        for index in range(5):
            split = FileSplit(data_dir / f"{dataset}.moe_splits.json", index)
            references = reference_rows(data_dir, dataset, split)
            found = [*references, cgcnn_row(data_dir, dataset, split) | {"n_real": references[0]["n_real"]}]
            rows += [{"dataset": dataset, "target": target, "split": index, "seed": index, **row} for row in found]
            pd.DataFrame(rows).round(4).to_csv(HERE / "results.csv", index=False)
    table = pd.DataFrame(rows).pivot_table(index=["dataset", "predictor"], values=["val_mae", "test_mae", "seconds"])
    print(table.round(2))


if __name__ == "__main__":
    main()
