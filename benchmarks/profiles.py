"""Where the time goes: operators of each hot path, in ms per structure.

python -m benchmarks.profiles

Writes `profiles.csv`: for a training step and a decoder call of either kind of networks and for a training step of
CGCNN, the operators that take most of the time by themselves, and the rest. Further, GemNet-T's sum over angles as it
is done here and the plain way, over a list of all pairs of edges at an atom ("triplets").
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from torch_geometric.data import Batch

from benchmarks.run import decoder_call, generator, predictor_loss, prepared, train_step, vae_loss
from matwheel.memory import keep_freed_memory
from matwheel.nn.angular import AngularCoupling, Star
from matwheel.nn.bases import spherical_harmonics
from matwheel.nn.symmetric_graph import SymmetricGraph

TABLE = Path(__file__).parent / "profiles.csv"
MOST = 8
"""Operators named per hot path."""


def operators(work: Callable[[], object], structures: int, repeats: int = 3) -> pd.Series:
    """Self time of each operator, ms per structure, longest first."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            work()
    times = {event.key: event.self_cpu_time_total / 1e3 / structures / repeats for event in profiler.key_averages()}
    return pd.Series(times).sort_values(ascending=False)


def sums_over_angles(batch: Batch, channels: int = 64, degrees: int = 7) -> dict[str, Callable[[], object]]:
    """The sum of messages weighted by P_l of the angle, as in GemNet-T, in both ways."""
    graph = SymmetricGraph.build(batch.frac_coords, batch.lattice, batch.num_atoms, 9.0, 20)
    edges = torch.arange(len(graph.centre))
    target, source = (graph.centre[:, None] == graph.centre).nonzero().unbind(1)
    x = torch.randn(len(edges), channels)

    def factorised() -> torch.Tensor:
        star = Star.build(spherical_harmonics(graph.direction, degrees), graph.centre, len(batch.batch))
        return AngularCoupling(star, star, torch.stack([edges, edges])).expand(x)

    def listed() -> torch.Tensor:
        cosines = (graph.direction[target] * graph.direction[source]).sum(1)
        polynomials = [torch.ones_like(cosines), cosines]
        for degree in range(1, degrees - 1):
            following = (2 * degree + 1) * cosines * polynomials[-1] - degree * polynomials[-2]
            polynomials.append(following / (degree + 1))
        messages = x[source]
        sums = [torch.zeros_like(x).index_add_(0, target, p[:, None] * messages) for p in polynomials]
        return torch.stack(sums)

    torch.testing.assert_close(factorised()[:-1], listed(), rtol=1e-3, atol=1e-3)
    return {"sum over angles, factorised": factorised, "sum over angles, triplets listed": listed}


def main() -> None:
    """Profile, print and write."""
    keep_freed_memory()
    torch.manual_seed(0)
    data = prepared(64)
    batch = next(iter(data.train_dataloader()))
    predictor, predictor_error = predictor_loss(data)
    models = {"paper's networks": generator(data, paper=True), "default networks": generator(data)}
    hot_paths: dict[str, Callable[[], object]] = {"CGCNN, training": train_step(predictor, predictor_error, batch)}
    for name, model in models.items():
        hot_paths[f"{name}, training"] = train_step(model, vae_loss(model), batch)
        hot_paths[f"{name}, decoder call"] = decoder_call(model, batch)
    hot_paths |= sums_over_angles(batch)
    rows = []
    for name, work in hot_paths.items():
        times = operators(work, batch.num_graphs)
        shown = {**times[:MOST].to_dict(), "all others": times[MOST:].sum(), "total": times.sum()}
        rows += [
            {"work": name, "operator": operator, "ms_per_structure": round(time, 4)} for operator, time in shown.items()
        ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    table.to_csv(TABLE, index=False)


if __name__ == "__main__":
    main()
