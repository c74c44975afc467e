"""Calls of decoders in tests."""

import torch


def latents(n, dim=6):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def arguments(table, latent=None):
    return (
        latents(len(table)) if latent is None else latent,
        torch.from_numpy(table.num_atoms),
        torch.from_numpy(table.lattices),
        torch.from_numpy(table.frac_coords),
        torch.from_numpy(table.atomic_numbers),
    )


def decode(network, table, latent=None):
    with torch.no_grad():
        return network(*arguments(table, latent))
