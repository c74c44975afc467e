import json
from pathlib import Path

import matminer
import numpy as np
import pytest
import torch

from matwheel.data.elements import NUM_FEATURES, element_features

BLOCKS = {
    "group": (0, 19),
    "period": (19, 26),
    "electronegativity": (26, 36),
    "covalent radius": (36, 46),
    "valence electrons": (46, 58),
    "ionisation energy": (58, 68),
    "electron affinity": (68, 78),
    "block": (78, 82),
    "atomic volume": (82, 92),
}


def features_of(z: int) -> dict[str, list[int]]:
    row = element_features()[z - 1]
    return {name: row[start:stop].nonzero().squeeze(1).tolist() for name, (start, stop) in BLOCKS.items()}


def published_features() -> torch.Tensor:
    """The table distributed with the original code, as matminer ships it."""
    path = Path(matminer.__file__).parent / "utils" / "data_files" / "cgcnn_atom_feature.json"
    table = json.loads(path.read_text())
    return torch.tensor([table[str(z)] for z in range(1, 101)], dtype=torch.float32)


def test_each_block_is_one_hot_or_unknown():
    features = element_features()
    assert features.shape == (100, NUM_FEATURES)
    assert features.dtype == torch.float32
    for name, (start, stop) in BLOCKS.items():
        ones = features[:, start:stop].sum(1)
        known = {"group", "period", "valence electrons", "ionisation energy", "block"}
        assert torch.equal(ones, torch.ones(100)) if name in known else bool(((ones == 0) | (ones == 1)).all()), name


@pytest.mark.parametrize(
    ("z", "group", "period", "valence", "block"),
    [
        (1, 1, 1, 1, "s"),
        (6, 14, 2, 4, "p"),
        (26, 8, 4, 8, "d"),
        (58, 0, 6, 2, "f"),
        (71, 3, 6, 3, "d"),
        (46, 10, 5, 10, "d"),
    ],
)
def test_known_elements(z, group, period, valence, block):
    features = features_of(z)
    assert features["group"] == [group]
    assert features["period"] == [period - 1]
    assert features["valence electrons"] == [valence - 1]
    assert features["block"] == ["spdf".index(block)]


def test_values_are_binned_over_the_published_ranges():
    oxygen = features_of(8)
    assert oxygen["electronegativity"] == [int((3.44 - 0.5) / 0.35)]
    assert oxygen["covalent radius"] == [int((66 - 25) / 22.5)]
    assert oxygen["ionisation energy"] == [int((np.log(13.618) - 1.3) / 0.2)]
    assert oxygen["electron affinity"] == [int((1.461 + 3.0) / 0.67)]
    assert oxygen["atomic volume"] == [int((np.log(17.36) - 1.5) / 0.28)]


def test_unknown_values_leave_their_block_empty():
    assert features_of(2)["electronegativity"] == []
    assert features_of(100)["atomic volume"] == []
    assert features_of(100)["covalent radius"] == []


def test_agrees_with_the_published_table_where_element_data_have_not_changed():
    ours, published = element_features(), published_features()
    for name in ("period", "ionisation energy"):
        start, stop = BLOCKS[name]
        torch.testing.assert_close(ours[:, start:stop], published[:, start:stop])
    # One element differs in each of these: Lu is in group 3 here, Pd has ten valence electrons, He is in the p block.
    for name in ("group", "valence electrons", "block"):
        start, stop = BLOCKS[name]
        assert int((ours[:, start:stop] != published[:, start:stop]).any(1).sum()) <= 1


def test_elements_differ_from_each_other_except_lanthanides():
    others = torch.cat([element_features()[:57], element_features()[70:83]])
    assert len(others.unique(dim=0)) == len(others)


def test_callers_cannot_change_the_table():
    element_features().zero_()
    assert element_features().any()
