"""The data module that predictor and generator share."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Batch

from matwheel.data.catalogue import load
from matwheel.data.cells import niggli_reduce
from matwheel.data.checks import usable_rows
from matwheel.data.crystal import CrystalTable, FloatArray, IntArray
from matwheel.data.division import divide
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.late_loader import LateLoader
from matwheel.data.rows import LoadedTable
from matwheel.data.shares import Shares
from matwheel.data.splits import RandomSplit, Split, SplitRows

log = logging.getLogger(__name__)

_EVALUATION_BATCHES = 4
"""Batches without gradients are so many times larger: they need less memory per crystal."""


@dataclass(frozen=True)
class TrainingStatistics:
    """What models may learn about the data before training: the current training set and nothing else.

    Attributes:
        target: [m] float64, user's units, of the m of n crystals that have a weight in the loss.
        conditions: [n, C] float64, user's units.
        num_atoms: [n] int64.
        lattices: [n, 3, 3] float64, A.
        frac_coords: [atoms, 3] float64, of one crystal after the other.
    """

    target: Tensor
    conditions: Tensor
    num_atoms: Tensor
    lattices: Tensor
    frac_coords: Tensor


class CrystalDataModule(L.LightningDataModule):
    """Crystals with one target property, split, as graphs with periodic neighbours.

    Args:
        dataset: Name from the catalogue, or path of a table (CSV, JSON, Parquet, extxyz, folder of CIFs).
        target: Property to predict; the data set's own by default.
        conditions: Properties the generator is conditioned on; the target by default.
        data_dir: Folder with further data sets (`NAME.json.gz`); else the environment variable MATWHEEL_DATA.
        split: How rows are divided into train, validation and test.
        labelled_fraction: Fraction of the labels of training rows that may be used (semi-supervised: below 1).
        use_unlabelled: Rows without a target are for training too, without a label (semi-supervised), instead of being
            skipped.
        reduce_cells: Replace each cell by its Niggli-reduced one, which generators learn more easily.
        max_sites: Crystals with more atoms per cell are left out and reported.
        cutoff: A, largest distance of a neighbour in the graphs.
        max_neighbours: Neighbours per atom in the graphs; ties with the last one are kept.
        batch_size: Crystals per step of the optimiser, divided among the processes.
        num_workers: Processes that assemble batches; 0 is fastest, since batches are slices of flat arrays.
        cache_dir: Where graphs are cached; `$MATWHEEL_CACHE` or the user's cache folder by default.
        structure_column: Column of a table that holds the structures; found by itself by default.
        id_column: Column of a table that holds unique names; found by itself by default.

    Raises:
        ValueError: If a size, the cutoff or a number of processes is out of range.
    """

    table: CrystalTable
    target: str
    conditions: list[str]

    def __init__(
        self,
        dataset: str = "mp_poly_total",
        target: str | None = None,
        conditions: list[str] | None = None,
        data_dir: Path | None = None,
        split: Split | None = None,
        labelled_fraction: float = 1.0,
        use_unlabelled: bool = False,
        reduce_cells: bool = True,
        max_sites: int = 64,
        cutoff: float = 8.0,
        max_neighbours: int = 20,
        batch_size: int = 64,
        num_workers: int = 0,
        cache_dir: Path | None = None,
        structure_column: str | None = None,
        id_column: str | None = None,
    ) -> None:
        super().__init__()
        counts = {"max_sites": max_sites, "max_neighbours": max_neighbours, "batch_size": batch_size}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, not {num_workers}")
        if not 0 < cutoff < math.inf:
            raise ValueError(f"cutoff must be a finite distance above 0 A, not {cutoff}")
        self.dataset = dataset
        self.target_option = target
        self.conditions_option = conditions
        self.data_dir = data_dir
        self.split = split if split is not None else RandomSplit()
        self.labelled_fraction = labelled_fraction
        self.use_unlabelled = use_unlabelled
        self.reduce_cells = reduce_cells
        self.max_sites = max_sites
        self.cutoff = cutoff
        self.max_neighbours = max_neighbours
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.cache_dir = cache_dir
        self.structure_column = structure_column
        self.id_column = id_column
        self._loaded: LoadedTable | None = None
        self._real: CrystalGraphs | None = None
        self.split_rows: SplitRows | None = None

    def prepare_data(self) -> None:
        """Read the table and build the graph cache, once per machine."""
        self._cached_graphs(self._load().table, self.trainer is None or self.trainer.progress_bar_callback is not None)

    def setup(self, stage: str) -> None:
        """Load table, graphs and split; calling it again changes nothing."""
        if self._real is not None:
            return
        loaded = self._load()
        if stage == "predict":  # new crystals need no label: every readable row is predicted
            self.target = self.target_option or loaded.default_target or "target"
        else:
            self.target = loaded.choose_target(self.target_option)
        self.conditions = self.conditions_option or [self.target]
        self.table = loaded.table
        self.report = loaded.report
        if stage != "predict":
            required = list(dict.fromkeys([self.target, *self.conditions]))
            fraction, unlabelled = self.labelled_fraction, self.use_unlabelled
            self.split_rows, self.report = divide(loaded, required, self.split, fraction, unlabelled)
        if len(self.report):
            log.warning("%s", self.report.summary())
        if stage == "fit" and not len(self.val_rows):
            self._refuse_choices()
        self._real = self._cached_graphs(self.table)
        if len(alone := self.table.ids[self._real.num_edges.numpy() == 0]):
            log.warning(
                "%d of %d crystals, such as %s, have no two atoms within the cutoff of %g A, so that their graphs say "
                "nothing of the structure: raise cutoff",
                *(len(alone), len(self.table), alone[0], self.cutoff),
            )
        self.use_training()

    def use_training(
        self, real_rows: IntArray | None = None, synthetic: CrystalTable | None = None, synthetic_weight: float = 1.0
    ) -> None:
        """Choose what is trained on: real rows (repeats allowed) and synthetic crystals.

        Validation and test rows are never touched.

        Args:
            real_rows: Rows of the table; the labelled training rows by default.
            synthetic: Synthetic crystals with the target (and the conditions) among their properties.
            synthetic_weight: Weight of a synthetic crystal in the predictor's loss; a real one has 1.
        """
        if real_rows is None:
            real_rows = self.split_rows.labelled if self.split_rows is not None else np.zeros(0, dtype=np.int64)
        self._refuse_evaluation_rows(real_rows, "trained on")
        real = self._real
        if real is None:
            raise RuntimeError("call setup before use_training")
        self.synthetic = synthetic if synthetic is not None and len(synthetic) else None
        if self.synthetic is None:
            self._pool, self._pool_table = real, self.table
        else:
            graphs = CrystalGraphs.build(self.synthetic, self.cutoff, self.max_neighbours)
            self._pool = CrystalGraphs.concatenate([real, graphs])
            self._pool_table = CrystalTable.concatenate([self.table, self.synthetic])
        self.train_rows = np.concatenate([real_rows, np.arange(len(real), len(self._pool))])
        weight = torch.ones(len(self._pool))
        weight[len(real) :] = synthetic_weight
        missing = np.full(len(self._pool), np.nan)
        columns = [self._pool_table.properties.get(name, missing) for name in (self.target, *self.conditions)]
        values = torch.from_numpy(np.stack(columns, 1)).float()
        self._per_crystal = {"target": values[:, 0], "conditions": values[:, 1:], "weight": weight}

    def with_training(
        self, real_rows: IntArray | None = None, synthetic: CrystalTable | None = None, synthetic_weight: float = 1.0
    ) -> CrystalDataModule:
        """Like `use_training`, on a copy that shares the real crystals, their graphs and the split."""
        module = copy.copy(self)
        module.use_training(real_rows, synthetic, synthetic_weight)
        return module

    def with_targets(self, rows: IntArray, values: FloatArray) -> CrystalDataModule:
        """A copy in which some rows of the table have another target; the training set is the default one.

        Args:
            rows: [n], of the training part.
            values: [n], user's units; NaN hides what is known.
        """
        self._refuse_evaluation_rows(rows, "given other labels")
        target = self.table.properties[self.target].copy()
        target[rows] = values
        module = copy.copy(self)
        module.table = self.table.with_properties(**{self.target: target})
        module.use_training()
        return module

    @property
    def training_table(self) -> CrystalTable:
        """The crystals of the current training set, repeats included."""
        return self._pool_table.take(self.train_rows)

    @property
    def training_weight(self) -> FloatArray:
        """[n], weight in the loss of each crystal of the current training set."""
        weight: FloatArray = self._per_crystal["weight"][torch.from_numpy(self.train_rows)].double().numpy()
        return weight

    @property
    def val_rows(self) -> IntArray:
        """Rows of the table used for every choice."""
        return self.split_rows.val if self.split_rows is not None else np.zeros(0, dtype=np.int64)

    @property
    def test_rows(self) -> IntArray:
        """Rows of the table used for the final figure only."""
        return self.split_rows.test if self.split_rows is not None else np.zeros(0, dtype=np.int64)

    def ids(self, rows: Tensor) -> list[str]:
        """Names of the crystals of a batch (its `row`)."""
        return [str(name) for name in self._pool_table.ids[rows.cpu().numpy()]]

    def values(self, name: str | None, rows: Tensor) -> Tensor:
        """[B] float32, a property of the crystals of a batch, user's units; NaN where the table has no such one."""
        known = self._pool_table.properties.get(name) if name is not None else None
        return torch.full(rows.shape, torch.nan) if known is None else torch.from_numpy(known)[rows.cpu()].float()

    def training_statistics(self) -> TrainingStatistics:
        """Targets, conditions and structures of the current training set."""
        table = self.training_table
        if not len(table):
            raise ValueError("the training set is empty: lower the validation and test fractions, or give more rows")
        return TrainingStatistics(
            target=torch.from_numpy(table.properties[self.target][self.training_weight > 0]),
            conditions=torch.from_numpy(np.stack([table.properties[name] for name in self.conditions], 1)),
            num_atoms=torch.from_numpy(table.num_atoms),
            lattices=torch.from_numpy(table.lattices),
            frac_coords=torch.from_numpy(table.frac_coords),
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the current training set."""
        return self._loader(self.train_rows, shared=True, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation rows; in a fit, this process's share of them."""
        fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return self._loader(self.val_rows, shared=fitting)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test rows."""
        return self._loader(self.test_rows)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of all rows, labelled or not."""
        return self._loader(np.arange(len(self.table)))

    def ordered_dataloader(self, rows: IntArray | None = None) -> DataLoader[Batch]:
        """Batches of rows in their order, the same in every process; the current training set by default."""
        return self._loader(self.train_rows if rows is None else rows)

    def _refuse_choices(self) -> None:
        """Raises a ValueError where a callback chooses by validation crystals, of which there are none."""
        for callback in self.trainer.callbacks if self.trainer is not None else ():  # type: ignore[attr-defined]
            monitored = str(getattr(callback, "monitor", None))
            if monitored.startswith("val/"):
                raise ValueError(
                    f"{type(callback).__name__} goes by {monitored}, and the split has no validation rows: give it "
                    "some, or take a config without this callback"
                )

    def _refuse_evaluation_rows(self, rows: IntArray, what: str) -> None:
        forbidden = np.intersect1d(rows, np.concatenate([self.val_rows, self.test_rows]))
        if len(forbidden):
            raise ValueError(f"rows {forbidden[:5].tolist()} belong to validation or test and cannot be {what}")

    def _loader(self, rows: IntArray, shared: bool = False, shuffle: bool = False) -> DataLoader[Batch]:
        dataset = _CrystalDataset(self._pool, rows, self._per_crystal)
        batch_size = self.batch_size if shuffle else self.batch_size * _EVALUATION_BATCHES
        shares = Shares.of(self.trainer, dataset, batch_size, shuffle) if shared else None
        kind = LateLoader if self.num_workers > 0 else DataLoader
        return kind(
            dataset,
            batch_size=batch_size if shares is None else None,
            sampler=shares,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_identity,
        )

    def _load(self) -> LoadedTable:
        if self._loaded is None:
            predicting = self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING
            loaded = load(
                self.dataset,
                self.data_dir,
                structure_column=self.structure_column,
                id_column=self.id_column,
                keep_repeated_ids=predicting,
            )
            loaded = usable_rows(loaded, max_sites=self.max_sites)
            if self.reduce_cells:
                loaded = replace(loaded, table=niggli_reduce(loaded.table))
            self._loaded = loaded
        return self._loaded

    def _cached_graphs(self, table: CrystalTable, progress: bool = False) -> CrystalGraphs:
        return CrystalGraphs.cached(table, self.cutoff, self.max_neighbours, self.cache_dir, progress)


class _CrystalDataset(Dataset[Batch]):
    """Rows of the graphs; a list of positions yields one batch in a few array operations."""

    def __init__(self, graphs: CrystalGraphs, rows: IntArray, per_crystal: dict[str, Tensor]) -> None:
        self.graphs = graphs
        self.rows = torch.from_numpy(rows)
        self.per_crystal = per_crystal

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: list[int]) -> Batch:
        rows = self.rows[positions]
        return self.graphs.batch(rows, **{name: values[rows] for name, values in self.per_crystal.items()})

    __getitems__ = __getitem__  # asked by loaders whose sampler yields single positions


def _identity(batch: Batch) -> Batch:
    return batch
