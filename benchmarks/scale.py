"""Time and memory against the number of crystals, the atoms per cell and the batch size.

python -m benchmarks.scale --prior runs/NAME/stages/prior/best.ckpt [--table LARGE.csv --target COLUMN]

Every point runs in a process of its own, so that its peak memory is its own. Writes `scale.csv` and `scale.png`. The
embedded crystals are repeated to the sizes wanted; `--prior` is the generator of a finished `make flywheel`; with
`--table`, a large table of your own is trained on as a whole. Reading the data is not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.run import generator, train_epoch, vae_loss
from matwheel.data.crystal import CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.memory import keep_freed_memory
from matwheel.models.saved_generator import SavedGenerator
from matwheel.models.unpack import Provenance

HERE = Path(__file__).parent
SIZES = (250, 500, 1000, 2000, 4000)
ATOMS = (2, 4, 8, 16, 32, 64)
BATCHES = (8, 32, 128, 512)


def embedded(**options: object) -> CrystalDataModule:
    """The default data set."""
    data = CrystalDataModule(**options)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def epoch_seconds(data: CrystalDataModule) -> float:
    """One epoch of the default Con-CDVAE."""
    model = generator(data)
    return seconds_of(lambda: train_epoch(model, vae_loss(model), data))


def sampling_seconds(crystals: int, checkpoint: Path) -> float:
    """So many crystals by a trained generator."""
    data = embedded()
    prior = SavedGenerator.load(checkpoint).model
    conditions = data.training_statistics().conditions.float()
    conditions = conditions[torch.arange(crystals) % len(conditions)]

    def work() -> None:
        for index in torch.arange(crystals).split(64):
            prior.sample(conditions[index], index, index, Provenance("scale"))

    return seconds_of(work)


def seconds_of(work: Callable[[], object]) -> float:
    """Time of one call."""
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def supercells(atoms: int, crystals: int = 64) -> CrystalDataModule:
    """The data set with a training set of cells of so many atoms, packed like the first crystals."""
    data, rng = embedded(batch_size=32, max_sites=64), np.random.default_rng(0)
    first = data.table.take(data.train_rows[:crystals])
    edge = np.cbrt(atoms * np.abs(np.linalg.det(first.lattices)) / first.num_atoms)
    made = CrystalTable(
        ids=first.ids,
        lattices=edge[:, None, None] * np.eye(3),
        num_atoms=np.full(crystals, atoms),
        frac_coords=rng.random((crystals * atoms, 3)),
        atomic_numbers=rng.integers(1, 84, crystals * atoms),
        properties=first.properties,
        origins=np.full(crystals, ""),
    )
    data.use_training(np.zeros(0, dtype=np.int64), made)
    return data


def measure(what: str, size: int, options: argparse.Namespace) -> tuple[int, float]:
    """Do one point's work; returns the number of crystals and the seconds."""
    if what == "graphs":
        table = embedded().table
        table = table.take(np.resize(np.arange(len(table)), size))
        return size, seconds_of(lambda: CrystalGraphs.build(table))
    if what == "sampling":
        return size, sampling_seconds(size, options.prior)
    if what == "table":
        split = RandomSplit(train=0.98, val=0.01, test=0.01)
        data = embedded(dataset=str(options.table), target=options.target, batch_size=32, split=split)
    elif what == "atoms per cell":
        data = supercells(size)
    else:
        data = embedded(batch_size=size if what == "batch size" else 32)
        data.use_training(np.resize(data.train_rows, size if what == "training" else 1024))
    return len(data.train_rows), epoch_seconds(data)


def point(what: str, size: int, options: list[str]) -> dict[str, object]:
    """One point, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--point", what, "--size", str(size), *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, object] = json.loads(output.splitlines()[-1])
    print(result, flush=True)
    return result


def plot(table: pd.DataFrame) -> None:
    """Seconds and memory per kind; a large table is a further point of training."""
    import matplotlib.pyplot as plt

    is_table = table["what"] == "table"
    table = table.assign(
        what=table["what"].mask(is_table, "training"), size=table["size"].mask(is_table, table["crystals"])
    )
    kinds = ["graphs", "training", "sampling", "atoms per cell", "batch size"]
    figure, axes = plt.subplots(2, len(kinds), figsize=(16, 6), constrained_layout=True)
    for column, kind in zip(axes.T, kinds, strict=True):
        part = table[table["what"] == kind]
        column[0].plot(part["size"], 1e3 * part["seconds"] / part["crystals"], "o-")
        column[1].plot(part["size"], part["peak_gb"], "o-")
        for axis in column:
            axis.margins(y=0.15)
            axis.set(xscale="log", ylim=(0, None))
            axis.set_xticks(part["size"], [f"{size:g}" for size in part["size"]], minor=False, rotation=45)
            axis.minorticks_off()
        column[0].set(title=kind, ylabel="ms per crystal")
        column[1].set(xlabel=kind if " " in kind else "crystals", ylabel="peak memory, GB")
    figure.savefig(HERE / "scale.png", dpi=120)


def main() -> None:
    """Measure all points, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, required=True, help="checkpoint of a generator with the default networks")
    parser.add_argument("--table", type=Path, help="a large table to train on for one epoch")
    parser.add_argument("--target", help="its target column")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        keep_freed_memory()
        torch.manual_seed(0)
        crystals, seconds = measure(options.point, options.size, options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        found = {"what": options.point, "size": options.size, "crystals": crystals}
        print(json.dumps({**found, "seconds": round(seconds, 2), "peak_gb": round(peak, 2)}))
        return
    kinds = {"graphs": (*SIZES, 20_000), "training": SIZES, "sampling": (64, 250, 1000)}
    points = [(what, size) for what, sizes in kinds.items() for size in sizes]
    points += [("atoms per cell", size) for size in ATOMS] + [("batch size", size) for size in BATCHES]
    if options.table is not None:
        points.append(("table", 0))
    given = [
        part
        for name in ("prior", "table", "target")
        if (value := getattr(options, name)) is not None
        for part in (f"--{name}", str(value))
    ]
    rows = [point(what, size, given) for what, size in points]
    table = pd.DataFrame(rows)
    table.to_csv(HERE / "scale.csv", index=False)
    plot(table)


if __name__ == "__main__":
    main()
