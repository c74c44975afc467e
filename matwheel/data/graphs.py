"""Graphs of a table of crystals as flat arrays: built once, cached on disk, batched without Python loops."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from matwheel.data.crystal import CrystalTable
from matwheel.data.neighbours import SHELL_TOLERANCE, Neighbours, periodic_neighbours
from matwheel.files import clear_write_errors
from matwheel.progress import progress_bar

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
"""Raise when the meaning or layout of cached graphs changes: older caches are then left alone and rebuilt."""
_PER_ATOM = ("atomic_numbers", "frac_coords")
_PER_EDGE = ("neighbour", "centre", "image", "dist", "shell", "repeats")
_OTHER_CACHE = "choose another folder with data.cache_dir or the environment variable MATWHEEL_CACHE"
_CHUNK = 128  # crystals per neighbour search: large enough to amortise, small enough for the processor's caches


@dataclass(frozen=True)
class CrystalGraphs:
    """Structures and edges of n crystals, all flat.

    Attributes:
        num_atoms: [n] int64.
        num_edges: [n] int64.
        lattices: [n, 3, 3] float32, A.
        atomic_numbers: [sum(num_atoms)] uint8.
        frac_coords: [sum(num_atoms), 3] float32.
        neighbour: [sum(num_edges)] int32, atom within its crystal.
        centre: [sum(num_edges)] int32, atom within its crystal.
        image: [sum(num_edges), 3] int16.
        dist: [sum(num_edges)] float32, A.
        shell: [sum(num_edges)] int32.
        repeats: [sum(num_edges)] int16.
    """

    num_atoms: Tensor
    num_edges: Tensor
    lattices: Tensor
    atomic_numbers: Tensor
    frac_coords: Tensor
    neighbour: Tensor
    centre: Tensor
    image: Tensor
    dist: Tensor
    shell: Tensor
    repeats: Tensor

    def __len__(self) -> int:
        return len(self.num_atoms)

    @cached_property
    def first_atom(self) -> Tensor:
        """[n] int64, where the atoms of each crystal begin."""
        return torch.cumsum(self.num_atoms, 0) - self.num_atoms

    @cached_property
    def first_edge(self) -> Tensor:
        """[n] int64, where the edges of each crystal begin."""
        return torch.cumsum(self.num_edges, 0) - self.num_edges

    @classmethod
    def build(
        cls, table: CrystalTable, cutoff: float = 8.0, max_neighbours: int = 20, progress: bool = False
    ) -> CrystalGraphs:
        """Find the neighbours of all crystals (float64, so that equal distances tie).

        Args:
            table: The crystals.
            cutoff: A.
            max_neighbours: Neighbours per atom; ties with the last one are kept.
            progress: Show a progress bar.
        """
        if not len(table):
            raise ValueError("there is no crystal to build graphs of")
        columns: list[list[Tensor]] = [[] for _ in range(7)]
        bar = progress_bar("building crystal graphs", len(table), "crystal", progress)
        for start in range(0, len(table), _CHUNK):
            part = table.take(np.arange(start, min(start + _CHUNK, len(table))))
            num_atoms = torch.from_numpy(part.num_atoms)
            edges = periodic_neighbours(
                torch.from_numpy(part.frac_coords),
                torch.from_numpy(part.lattices),
                num_atoms,
                cutoff=cutoff,
                max_neighbours=max_neighbours,
            )
            crystal = torch.repeat_interleave(torch.arange(len(part)), num_atoms)[edges.edge_index[1]]
            local = edges.edge_index - (torch.cumsum(num_atoms, 0) - num_atoms)[crystal]
            values = (
                torch.bincount(crystal, minlength=len(part)),
                local[0].int(),
                local[1].int(),
                edges.image.short(),
                edges.dist.float(),
                edges.shell.int(),
                _repeats(edges).short(),
            )
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            bar.update(len(part))
        bar.close()
        num_edges, neighbour, centre, image, dist, shell, repeats = (torch.cat(column) for column in columns)
        return cls(
            num_atoms=torch.from_numpy(table.num_atoms),
            num_edges=num_edges,
            lattices=torch.from_numpy(table.lattices).float(),
            atomic_numbers=torch.from_numpy(table.atomic_numbers).to(torch.uint8),
            frac_coords=torch.from_numpy(table.frac_coords).float(),
            neighbour=neighbour,
            centre=centre,
            image=image,
            dist=dist,
            shell=shell,
            repeats=repeats,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[CrystalGraphs]) -> CrystalGraphs:
        """Graphs below each other."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def save(self, folder: Path) -> None:
        """Write one `.npy` per array into a new folder; complete or not there at all, whatever interrupts it.

        Raises:
            WriteError: If the folder cannot be written.
        """
        with clear_write_errors(folder, _OTHER_CACHE):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                for f in fields(self):
                    np.save(temporary / f"{f.name}.npy", getattr(self, f.name).numpy(), allow_pickle=False)
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process finished the same cache first
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> CrystalGraphs:
        """Map what `save` wrote into memory; nothing in the files is executed.

        Raises:
            ValueError: If a file is missing, cut off or not of these graphs.
        """
        try:
            # Copy-on-write: torch wants writable memory, the file itself is never changed.
            arrays = {f.name: np.load(folder / f"{f.name}.npy", mmap_mode="c", allow_pickle=False) for f in fields(cls)}
            graphs = cls(**{name: torch.from_numpy(array) for name, array in arrays.items()})
        except Exception as error:  # damaged files fail in many ways: each means unreadable
            raise ValueError(f"{folder} holds no graphs that can be read: {error}") from error
        atoms, edges = int(graphs.num_atoms.sum()), int(graphs.num_edges.sum())
        lengths = {**dict.fromkeys(_PER_ATOM, atoms), **dict.fromkeys(_PER_EDGE, edges)}
        if any(len(getattr(graphs, f.name)) != lengths.get(f.name, len(graphs)) for f in fields(cls)):
            raise ValueError(f"{folder} holds graphs whose files do not belong together")
        return graphs

    @classmethod
    def cached(
        cls,
        table: CrystalTable,
        cutoff: float,
        max_neighbours: int,
        cache_dir: Path | None = None,
        progress: bool = True,
    ) -> CrystalGraphs:
        """Load the graphs of a table from the cache, building them the first time.

        The cache key covers the structures, the neighbour rule and the format of the files. A cache that is damaged is
        built again.

        Raises:
            WriteError: If the cache cannot be written.
        """
        rule = json.dumps([FORMAT_VERSION, table.fingerprint(), cutoff, max_neighbours, SHELL_TOLERANCE])
        folder = Path(cache_dir or default_cache_dir()) / f"graphs-{_short_hash(rule)}"
        if folder.is_dir():
            try:
                return cls.load(folder)
            except ValueError as error:
                log.warning("%s; they are built again", error)
                with clear_write_errors(folder, _OTHER_CACHE):
                    shutil.rmtree(folder)
        cls.build(table, cutoff, max_neighbours, progress=progress).save(folder)
        log.info("cached %d crystal graphs, for any target, in %s", len(table), folder)
        return cls.load(folder)

    def batch(self, rows: Tensor, **per_crystal: Tensor) -> Batch:
        """Collate crystals into one batch (see `matwheel.data.keys`).

        Args:
            rows: [B] int64, positions of the crystals; repeats are allowed.
            per_crystal: Further [B, ...] tensors to attach (target, conditions, weight).
        """
        num_atoms, num_edges = self.num_atoms.index_select(0, rows), self.num_edges.index_select(0, rows)
        atoms = _ragged_arange(self.first_atom.index_select(0, rows), num_atoms)
        edges = _ragged_arange(self.first_edge.index_select(0, rows), num_edges)
        ptr = torch.cat([num_atoms.new_zeros(1), torch.cumsum(num_atoms, 0)])
        first_atom = torch.repeat_interleave(ptr[:-1], num_edges)
        return Batch(
            atomic_numbers=self.atomic_numbers.index_select(0, atoms).long(),
            frac_coords=self.frac_coords.index_select(0, atoms),
            lattice=self.lattices.index_select(0, rows),
            num_atoms=num_atoms,
            batch=torch.repeat_interleave(torch.arange(len(rows)), num_atoms),
            ptr=ptr,
            edge_index=torch.stack(
                [self.neighbour.index_select(0, edges) + first_atom, self.centre.index_select(0, edges) + first_atom]
            ),
            edge_image=self.image.index_select(0, edges).float(),
            edge_dist=self.dist.index_select(0, edges),
            edge_shell=self.shell.index_select(0, edges).long(),
            edge_repeats=self.repeats.index_select(0, edges).float(),
            row=rows,
            **per_crystal,
        )


def default_cache_dir() -> Path:
    """`$MATWHEEL_CACHE`, or `matwheel` in the user's cache folder."""
    if "MATWHEEL_CACHE" in os.environ:
        return Path(os.environ["MATWHEEL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "matwheel"


def _repeats(edges: Neighbours) -> Tensor:
    """[E], how many edges join the same two atoms at the same distance: at the first of them, zero at the others."""
    neighbour, centre = edges.edge_index.unbind()
    if not len(centre):
        return centre
    alike = (centre * (edges.shell.max() + 1) + edges.shell) * (neighbour.max() + 1) + neighbour
    _, kind, counts = torch.unique(alike, return_inverse=True, return_counts=True)
    first = torch.full_like(counts, len(centre))
    first.scatter_reduce_(0, kind, torch.arange(len(centre)), "amin")
    repeats: Tensor = torch.zeros_like(centre).index_copy_(0, first, counts)
    return repeats


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of the same cache; writing one takes seconds, not an hour."""
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it first
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ragged_arange(starts: Tensor, lengths: Tensor) -> Tensor:
    first = torch.cumsum(lengths, 0) - lengths
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - first, lengths)
