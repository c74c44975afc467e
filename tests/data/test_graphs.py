import os
import time

import numpy as np
import pytest
import torch

from matwheel.data import graphs as graphs_module
from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.files import WriteError


def make_table(n: int = 7, seed: int = 0) -> CrystalTable:
    rng = np.random.default_rng(seed)
    return CrystalTable.from_crystals(
        Crystal(
            id=f"c{row}",
            lattice=np.eye(3) * rng.uniform(3, 6) + rng.uniform(-0.5, 0.5, (3, 3)),
            frac_coords=rng.uniform(0, 1, (1 + row % 4, 3)),
            atomic_numbers=rng.integers(1, 100, 1 + row % 4),
            properties={"gap": float(row)},
        )
        for row in range(n)
    )


def test_batch_equals_the_crystals_one_by_one():
    table = make_table()
    graphs = CrystalGraphs.build(table, cutoff=5.0, max_neighbours=8)
    rows = torch.tensor([5, 0, 5, 3])
    batch = graphs.batch(rows, target=torch.tensor([5.0, 0.0, 5.0, 3.0]))
    assert batch.num_graphs == 4
    assert batch.row.tolist() == rows.tolist()
    for position, row in enumerate(rows.tolist()):
        crystal, alone = table[row], graphs.batch(torch.tensor([row]))
        atoms = slice(int(batch.ptr[position]), int(batch.ptr[position + 1]))
        assert batch.atomic_numbers[atoms].tolist() == crystal.atomic_numbers.tolist()
        np.testing.assert_allclose(batch.frac_coords[atoms], crystal.frac_coords, atol=1e-6)
        np.testing.assert_allclose(batch.lattice[position], crystal.lattice, atol=1e-5)
        mine = batch.batch[batch.edge_index[1]] == position
        assert torch.equal(batch.edge_index[:, mine] - atoms.start, alone.edge_index)
        assert torch.equal(batch.edge_dist[mine], alone.edge_dist)
        assert torch.equal(batch.edge_shell[mine], alone.edge_shell)
        vector = (batch.frac_coords[batch.edge_index[0]] + batch.edge_image - batch.frac_coords[batch.edge_index[1]])[
            mine
        ] @ batch.lattice[position]
        torch.testing.assert_close(vector.norm(dim=1), batch.edge_dist[mine], atol=1e-4, rtol=1e-4)


def test_batches_move_between_devices_as_pyg_batches():
    batch = CrystalGraphs.build(make_table()).batch(torch.arange(3)).to("meta")
    assert batch.edge_dist.device.type == "meta"
    assert batch.num_graphs == 3


def test_chunks_do_not_show(monkeypatch):
    table = make_table(9)
    whole = CrystalGraphs.build(table)
    monkeypatch.setattr(graphs_module, "_CHUNK", 2)
    parts = CrystalGraphs.build(table)
    for name, tensor in vars(whole).items():
        assert torch.equal(tensor, getattr(parts, name)), name


def test_concatenate():
    table = make_table(6)
    whole = CrystalGraphs.build(table)
    halves = CrystalGraphs.concatenate(
        [CrystalGraphs.build(table.take([0, 1, 2])), CrystalGraphs.build(table.take([3, 4, 5]))]
    )
    for name, tensor in vars(whole).items():
        assert torch.equal(tensor, getattr(halves, name)), name


def test_cache_is_built_once_and_never_pickled(tmp_path, monkeypatch):
    table = make_table()
    first = CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    folders = list(tmp_path.iterdir())
    assert len(folders) == 1
    assert all(np.load(file, allow_pickle=False) is not None for file in folders[0].iterdir())
    monkeypatch.setattr(CrystalGraphs, "build", lambda *_, **__: pytest.fail("built again"))
    again = CrystalGraphs.cached(table, 6.0, 12, tmp_path)
    assert torch.equal(first.dist, again.dist)


def test_cache_key_covers_structures_rule_and_version(tmp_path, monkeypatch):
    table = make_table()
    CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    CrystalGraphs.cached(table, 5.0, 12, tmp_path, progress=False)
    CrystalGraphs.cached(table, 6.0, 11, tmp_path, progress=False)
    CrystalGraphs.cached(table.take([1, 0, 2, 3, 4, 5, 6]), 6.0, 12, tmp_path, progress=False)
    monkeypatch.setattr(graphs_module, "FORMAT_VERSION", -1)
    CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 5


def test_properties_do_not_change_the_cache(tmp_path):
    table = make_table()
    CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    CrystalGraphs.cached(table.with_properties(gap=np.zeros(7)), 6.0, 12, tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 1


def test_interrupted_cache_leaves_nothing_behind(tmp_path, monkeypatch):
    graphs = CrystalGraphs.build(make_table())

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(WriteError, match=r"cannot write .*graphs-x: No space left on device; free some space"):
        graphs.save(tmp_path / "graphs-x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    graphs, folder = CrystalGraphs.build(make_table()), tmp_path / "graphs-abc"
    old, new, other = (tmp_path / name for name in (".graphs-abc-old", ".graphs-abc-new", ".graphs-xyz-old"))
    for left in (old, new, other):
        left.mkdir()
        (left / "dist.npy").write_bytes(b"half")
    for left in (old, other):
        os.utime(left, (time.time() - 7200,) * 2)
    graphs.save(folder)
    assert not old.exists()
    assert new.exists()  # another process may still be writing it
    assert other.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "foreign", "pickle", "shorter"])
def test_a_damaged_cache_is_built_again(tmp_path, caplog, damage):
    table = make_table()
    first = CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    expected = first.dist.clone()
    del first  # maps the files
    file = next(tmp_path.iterdir()) / "dist.npy"
    content = file.read_bytes()
    match damage:
        case "cut" | "empty":
            file.write_bytes(content[: 0 if damage == "empty" else len(content) // 2])
        case "missing":
            file.unlink()
        case "foreign":
            file.write_bytes(b"not an array")
        case "pickle":
            np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        case "shorter":
            np.save(file, np.load(file)[:-1])
    again = CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    assert torch.equal(again.dist, expected)
    assert "they are built again" in caplog.text
    assert file.read_bytes() == content


def test_no_crystals():
    with pytest.raises(ValueError, match="no crystal"):
        CrystalGraphs.build(make_table().take([]))
