"""What do the sources make? Metrics of the crystals of split 0, at most 300 of each kind, against all real ones.

Run from the repository root on both finished studies, with MATWHEEL_DATA set:
`python experiments/synthetic_sources/metrics.py runs/synthetic_sources-*`. Writes `metrics.csv`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from matwheel import api
from matwheel.data.crystal import CrystalTable
from matwheel.flywheel.results import read_results
from matwheel.metrics.pool import Pool

HERE = Path(__file__).parent
KINDS = {  # kinds that differ in their labels alone hold the same crystals
    "raw": ("raw samples", "samples/samples.npz"),
    "filtered": ("filtered", "crystals/crystals.npz"),
    "substitution": ("ion substitution", "samples/samples.npz"),
    "jitter": ("strain and jitter", "samples/samples.npz"),
}
AT_MOST = 300


def main() -> None:
    """Evaluate the crystals of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of the studies, of which split 0 is finished")
    rows = []
    for study in parser.parse_args().studies:
        for kind, (name, file) in KINDS.items():
            cell = study / f"split=0,kind={kind}"
            dataset = read_results(cell / "results.csv")[0].dataset
            table = CrystalTable.load(cell / "stages" / file)
            chosen = table.take(np.random.default_rng(0).permutation(len(table))[:AT_MOST])
            structures = [crystal.to_structure() for crystal in chosen]
            figures = api.evaluate(structures, dataset, pool=Pool(progress=True)).figures
            row = {figure.name: figure.value for figure in figures}
            rows.append({"dataset": dataset, "crystals": name, "n": len(chosen), **row})
        pd.DataFrame(rows).round(4).to_csv(HERE / "metrics.csv", index=False)
    print(pd.DataFrame(rows).round(3).T.to_string())


if __name__ == "__main__":
    main()
