"""A training step of CHGNet, here and in its package, in ms of processor time per structure.

python -m benchmarks.chgnet

On structures of poly_total; the package converts structures to graphs once, before its step, which is counted apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from chgnet.model import CHGNet as Package

from matwheel.data.catalogue import load
from matwheel.data.graphs import CrystalGraphs
from matwheel.nn.chgnet import CHGNetFeatures
from matwheel.nn.chgnet_weights import load_pretrained

COUNT = 32
REPEATS = 5


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time per structure, the shortest of several."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / COUNT * 1e3


def main() -> None:
    """Measure on one core."""
    torch.set_num_threads(1)
    table = load("mp_poly_total").table
    table = table.take(np.random.default_rng(0).permutation(len(table))[:COUNT])
    batch = CrystalGraphs.build(table).batch(torch.arange(COUNT))
    network = CHGNetFeatures()
    load_pretrained(network, "0.3.0")
    package = Package.load(use_device="cpu", verbose=False)
    structures = [crystal.to_structure() for crystal in table]
    graphs = [package.graph_converter(structure) for structure in structures]
    for graph in graphs:
        graph.atom_frac_coord.requires_grad_(False)
        graph.lattice.requires_grad_(False)
    rows = {
        "here, step with neighbours": lambda: network(batch).sum().backward(),
        "package, step": lambda: package(graphs, task="e")["e"].sum().backward(),
        "package, conversion": lambda: [package.graph_converter(structure) for structure in structures],
    }
    for name, work in rows.items():
        print(f"{name}: {milliseconds(work):.1f} ms")


if __name__ == "__main__":
    main()
