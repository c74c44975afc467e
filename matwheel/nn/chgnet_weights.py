"""The weights of CHGNet, which are files of its package."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from matwheel.nn.chgnet import CHGNetFeatures

Version = Literal["0.3.0", "r2scan"]
_FILES: dict[Version, str] = {
    "0.3.0": "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
    "r2scan": "r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
}
_NAMES = {
    r"^atom_embedding\.embedding": "embedding",
    r"^bond_basis_expansion\.rbf_expansion_ag": "far_basis",
    r"^bond_basis_expansion\.rbf_expansion_bg": "near_basis",
    r"^angle_basis_expansion\.fourier_expansion": "angle_basis",
    r"^bond_weights_ag": "far_weight",
    r"^bond_weights_bg": "near_weight",
    r"^readout_norm": "norm",
    r"^atom_conv_layers\.(\d)": r"atom_convs.\1",
    r"^bond_conv_layers\.(\d)": r"bond_convs.\1",
    r"^angle_layers\.(\d)\.twoBody_bond": r"angle_updates.\1",
    r"\.twoBody_(atom|bond)": ".message",
    r"\.mlp_out\.layers\.1": ".out",
    r"\.mlp_(core|gate)\.layers\.[01]": r".\1.first",  # 0 is a dropout where there is one layer only
    r"\.mlp_(core|gate)\.layers\.3": r".\1.rest.1",
    r"\.bn1": ".core_norm",
    r"\.bn2": ".gate_norm",
}
"""Patterns of the package's names and what they are called here."""
_UNUSED = ("composition_model.", "site_wise.", "mlp.", "angle_updates.2.")
"""For energies and magnetic moments, and an update that nothing reads."""


def load_pretrained(network: CHGNetFeatures, version: Version) -> None:
    """Give a network the weights that the package ships.

    Nothing in the file is executed, and the package itself is not imported.

    Args:
        network: Gets the weights.
        version: `0.3.0` learned energies, forces, stresses and magnetic moments of PBE+U relaxations of the Materials
            Project, `r2scan` was refined on r2SCAN energies.

    Raises:
        ValueError: If there are no such weights, or the package is not installed.
    """
    if version not in _FILES:
        raise ValueError(f"there are no weights of CHGNet {version!r}: choose {' or '.join(_FILES)}")
    package = find_spec("chgnet")
    if package is None or package.origin is None:
        raise ValueError('the weights of CHGNet are part of its package: pip install "matwheel[potentials]"')
    path = Path(package.origin).parent / "pretrained" / _FILES[version]
    theirs: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]["state_dict"]
    weights = {_own_name(name): value for name, value in theirs.items()}
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith(_UNUSED)})


def _own_name(name: str) -> str:
    for pattern, replacement in _NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name
