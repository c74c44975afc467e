"""Do prediction intervals hold what they promise? On the published splits, for one CGCNN and for three.

Run from the repository root with MATWHEEL_DATA set: `python -m experiments.intervals.run`. Writes `results.csv`.
"""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel import fit
from matwheel.data.catalogue import load
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.predictors.saved_ensemble import PredictorEnsemble

HERE = Path(__file__).parent
CONFIG = "configs/predictor/cgcnn.yaml"
DATASETS = ("mp_poly_total", "jarvis_2d_exfoliation")
MODELS = 3
COVERAGES = (0.5, 0.8, 0.9)


def train(dataset: str, index: int, seed: int) -> Path:
    """A checkpoint; trained once."""
    name = f"intervals-{dataset}-{index}-{seed}"
    best = Path("runs", name, "version_0", "checkpoints", "best.ckpt")
    if not best.is_file():
        options = ["-c", CONFIG, "--name", name, "--seed_everything", str(seed), "--data.dataset", dataset]
        options += ["--data.split", "FileSplit", "--data.split.path", os.environ["MATWHEEL_DATA"]]
        options[-1] += f"/{dataset}.moe_splits.json"
        options += ["--data.split.index", str(index), "--trainer.enable_progress_bar", "false"]
        fit.main(["fit", *options])
    return best


def main() -> None:
    """Train, predict, count."""
    rows = []
    for dataset, index in itertools.product(DATASETS, range(5)):
        models = [train(dataset, index, seed) for seed in range(MODELS)]
        path = Path(os.environ["MATWHEEL_DATA"], f"{dataset}.moe_splits.json")
        data = CrystalDataModule(dataset, split=FileSplit(path, index))
        data.prepare_data()
        data.setup("fit")
        ids = data.table.ids[data.test_rows]
        for number, coverage in itertools.product((1, MODELS), COVERAGES):
            ensemble = PredictorEnsemble.load(models[:number])
            found = ensemble.predict(load(dataset), coverage).set_index("id").loc[ids]
            rows.append(
                {
                    "dataset": dataset,
                    "split": index,
                    "models": number,
                    "promised": coverage,
                    "held": found["target"].between(found["low"], found["high"]).mean(),
                    "high / low, median": np.median(found["high"] / found["low"]),
                }
            )
            pd.DataFrame(rows).round(4).to_csv(HERE / "results.csv", index=False)
    print(pd.DataFrame(rows).groupby(["dataset", "models", "promised"])[["held", "high / low, median"]].mean().round(3))


if __name__ == "__main__":
    main()
