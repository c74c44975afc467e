"""Do generated crystals have the property that was asked for? Judged by predictors of crystals no generator has seen.

Run from the repository root with MATWHEEL_DATA set, on finished runs of the published splits with a trained generator:
`python experiments/synthetic_sources/conditions.py runs/paper/dataset=*,scenario=full,split=[01]`. The judges are two
CGCNNs per split, trained on its validation and test crystals: nothing they say may decide what is later scored on
those.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matwheel.data.crystal import CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import FileSplit
from matwheel.flywheel.fingerprint import data_fingerprint, describe
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.processes import SINGLE_PROCESS
from matwheel.flywheel.results import read_results
from matwheel.flywheel.run import Run, Work
from matwheel.flywheel.trainers import BEST, StageTrainers, seed_all
from matwheel.metrics.condition_error import condition_error
from matwheel.metrics.validity import structure_validity
from matwheel.models.averaging import WeightAverage
from matwheel.models.checkpoints import load_weights
from matwheel.models.predictor import PropertyPredictor
from matwheel.nn.cgcnn import CGCNN

HERE = Path(__file__).parent
JUDGES = 2


class Judges:
    """Predictors trained on the rows of a published split that its generators do not see.

    Args:
        dataset: Name, with a file of published splits beside it in MATWHEEL_DATA.
        index: Which split.
    """

    def __init__(self, dataset: str, index: int) -> None:
        published = json.loads(Path(os.environ["MATWHEEL_DATA"], f"{dataset}.moe_splits.json").read_text())
        split = published["splits"][index]
        rows = np.random.default_rng(0).permutation(split["val"] + split["test"]).tolist()
        kept = len(rows) // 8
        folder = Path("runs", f"judges-{dataset}-{index}")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "split.json"
        path.write_text(json.dumps({"train": rows[kept:], "val": rows[:kept], "test": []}))
        self.data = CrystalDataModule(dataset, split=FileSplit(path), batch_size=16)
        self.data.prepare_data()
        self.data.setup("fit")
        with Ledger(folder, SINGLE_PROCESS) as ledger:
            run = Run(ledger, StageTrainers(), seed=0)
            seed_all(0)
            given = {"model": describe(_predictor())}, {"data": data_fingerprint(self.data)}
            stages = [run.stage(f"judge-{n}", self._fit(run), *given, purpose=f"judge {n}") for n in range(JUDGES)]
        self.checkpoints = [stage.folder / BEST for stage in stages]

    def _fit(self, run: Run) -> Work:
        def work(folder: Path, seed: int) -> dict[str, float]:
            average = [WeightAverage(0.99)]
            return run.trainers.fit(
                _predictor(), self.data, folder, "judge", seed, "val/mae", callbacks=average, max_epochs=30
            )

        return work

    def log_property(self, table: CrystalTable) -> np.ndarray:
        """[n], mean of what the judges say, as ln of the property."""
        graphs = CrystalGraphs.build(table, self.data.cutoff, self.data.max_neighbours)
        answers = []
        for checkpoint in self.checkpoints:
            model = _predictor()
            load_weights(model, checkpoint)
            model.eval()
            with torch.inference_mode():
                parts = [model(graphs.batch(rows)) for rows in torch.arange(len(table)).split(128)]
            answers.append(torch.cat(parts).clamp_min(1e-3).log().numpy())
        return np.mean(answers, 0)


def _predictor() -> PropertyPredictor:
    """The predictor of configs/predictor/cgcnn.yaml."""
    return PropertyPredictor(CGCNN(max_neighbours=20, dropout=0.2), learning_rate=5e-3)


def main() -> None:
    """Judge the samples of runs; writes `conditions.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished flywheels with a trained generator")
    options = parser.parse_args()
    rows = []
    for run in options.runs:
        first = read_results(run / "results.csv")[0]
        index = int(first.split.rpartition("-")[2])
        judges = Judges(first.dataset, index)
        samples = CrystalTable.load(run / "stages" / "samples" / "samples.npz")
        real = judges.data.table.take(np.setdiff1d(np.arange(len(judges.data.table)), judges.data.split_rows.train))
        for name, table in (("generated", samples), ("real", real)):
            valid = table.take(np.flatnonzero(structure_validity(table).valid))
            asked = np.log(valid.properties[first.target].clip(1e-3))
            found = condition_error(asked, judges.log_property(valid))
            row = {"dataset": first.dataset, "split": index, "crystals": name, "n": found.count, "MAE of ln": found.mae}
            row |= {"shuffled": found.shuffled_mae, "p": found.p_value, "rank correlation": found.rank_correlation}
            rows.append(row)
        pd.DataFrame(rows).round(4).to_csv(HERE / "conditions.csv", index=False)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
