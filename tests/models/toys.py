"""Small networks, crystals and data modules for the tests of the generator."""

from types import SimpleNamespace

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from matwheel.data.crystal import Crystal, CrystalTable, IntArray
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.module import TrainingStatistics
from matwheel.models.con_cdvae import ConCDVAE
from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.lattice import cell_matrix
from matwheel.nn.mlp import mlp


def toy_crystals(count: int = 8, seed: int = 0) -> CrystalTable:
    """Crystals of 1 to 5 atoms of different elements each."""
    rng = np.random.default_rng(seed)
    crystals = []
    for i in range(count):
        n = 1 + i % 5
        lengths, angles = rng.uniform(3, 6, 3), rng.uniform(75, 110, 3)
        matrix = cell_matrix(torch.from_numpy(lengths[None]), torch.from_numpy(angles[None]))[0].numpy()
        numbers = rng.choice(np.arange(1, 20), n, replace=False)
        properties = {"dielectric": float(np.exp(rng.normal(2, 0.7))), "system": float(i % 3)}
        crystals.append(Crystal(f"toy-{i}", matrix, rng.uniform(0, 1, (n, 3)), numbers, properties))
    return CrystalTable.from_crystals(crystals)


class ToyEncoder(nn.Module):
    """Mean of atom features; tells toy crystals apart."""

    def __init__(self, out_channels: int = 32) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.embedding = nn.Embedding(101, 32)
        self.net = mlp(32 + 9, 64, 1, out_channels)
        self.calls = 0

    def forward(self, batch: Batch) -> Tensor:
        self.calls += 1
        summed = torch.zeros(batch.num_graphs, 32, device=batch.lattice.device)
        summed = summed.index_add(0, batch.batch, self.embedding(batch.atomic_numbers))
        return self.net(torch.cat([summed, batch.lattice.flatten(1) / 5], 1))


class ToyDecoder(nn.Module):
    """One perceptron for every atom by itself: knows the cell, where in it the atom is, and of which type."""

    def __init__(self, latent_dim: int, predict_types: bool = True) -> None:
        super().__init__()
        self.predict_types = predict_types
        self.embedding = nn.Embedding(101, 16)
        self.net = mlp(latent_dim + 16 + 12 + 9, 128, 2, 103 if predict_types else 3)

    def forward(
        self, latent: Tensor, num_atoms: Tensor, lattice: Tensor, frac_coords: Tensor, atomic_numbers: Tensor
    ) -> SimpleNamespace:
        phase = 2 * torch.pi * torch.cat([frac_coords, 2 * frac_coords], 1)
        per_crystal = torch.cat([latent, lattice.flatten(1) / 5], 1).repeat_interleave(num_atoms, 0)
        out = self.net(torch.cat([per_crystal, self.embedding(atomic_numbers), phase.sin(), phase.cos()], 1))
        return SimpleNamespace(vectors=out[:, :3], type_logits=out[:, 3:] if self.predict_types else None)


def toy_vae(**options: object) -> ConCDVAE:
    """A ConCDVAE in miniature."""
    torch.manual_seed(0)
    parts = {
        "encoder": ToyEncoder(),
        "decoder": ToyDecoder(16 + 8),
        "condition_embedding": ConditionEmbedding(
            {"dielectric": "log", "system": "class"}, num_points=8, feature_dim=8, out_dim=8
        ),
    }
    sizes = {"latent_dim": 16, "time_dim": 8, "hidden_dim": 32, "max_atoms": 8}
    return ConCDVAE(**{**parts, **sizes, **options})  # type: ignore[arg-type]


class ToyData(L.LightningDataModule):
    """The part of `CrystalDataModule` that generators use, on crystals in memory."""

    conditions = ("dielectric", "system")

    def __init__(self, table: CrystalTable | None = None, batch_size: int = 8) -> None:
        super().__init__()
        self.table = toy_crystals() if table is None else table
        self.conditions = ["dielectric", "system"]
        self.batch_size = batch_size
        self.train_rows = self.val_rows = self.test_rows = np.arange(len(self.table))
        self.graphs = CrystalGraphs.build(self.table)
        self.values = torch.from_numpy(np.stack([self.table.properties[name] for name in self.conditions], 1)).float()

    def batch(self, rows: list[int]) -> Batch:
        return self.graphs.batch(torch.tensor(rows), conditions=self.values[rows])

    def ids(self, rows: Tensor) -> list[str]:
        return [str(name) for name in self.table.ids[rows.numpy()]]

    def training_statistics(self) -> TrainingStatistics:
        return TrainingStatistics(
            target=self.values[:, 0].double(),
            conditions=self.values.double(),
            num_atoms=torch.from_numpy(self.table.num_atoms),
            lattices=torch.from_numpy(self.table.lattices),
            frac_coords=torch.from_numpy(self.table.frac_coords),
        )

    def train_dataloader(self) -> DataLoader:
        return DataLoader(range(len(self.table)), self.batch_size, shuffle=True, collate_fn=self.batch)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(range(len(self.table)), self.batch_size, collate_fn=self.batch)

    test_dataloader = val_dataloader

    def ordered_dataloader(self, rows: IntArray) -> DataLoader:
        return DataLoader(rows.tolist(), self.batch_size, collate_fn=self.batch)


def quiet_trainer(**options: object) -> L.Trainer:
    """A Trainer on the CPU that writes nothing, unless told otherwise."""
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**{**quiet, **options})  # type: ignore[arg-type]
