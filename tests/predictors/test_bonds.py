import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import CrystalTable
from matwheel.predictors.bonds import Bonds
from tests.metrics.crystals import caesium_chloride, doubled, moved, rock_salt, table_of
from tests.nn.crystals import isolated_atom, random_crystals


def named(table: CrystalTable) -> dict[str, np.ndarray]:
    return dict(zip(Bonds().names, Bonds().compute(table).T, strict=True))


def test_textbook_crystals() -> None:
    """Six bonds in rock salt; in caesium chloride eight, and six a little longer; an atom alone has none."""
    found = named(table_of(rock_salt(), caesium_chloride(), isolated_atom()))
    assert found["mean bonds"].tolist() == [6, 14, 0]
    assert found["bonds of anions"].tolist() == [6, 14, 0]
    assert found["mean bond length (A)"] == pytest.approx([2.82, 3.5 * (8 * np.sqrt(3) / 2 + 6) / 14, 0])
    contrast = 3.16 - 0.93
    assert found["mean difference of electronegativity over bonds"] == pytest.approx([contrast, contrast * 8 / 14, 0])
    assert found["max one-sidedness"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found["max bonds to the same element"] == pytest.approx([0, 6 / 14, 0])
    assert found["ln of volume per atom (A^3)"][0] == pytest.approx(np.log(5.64**3 / 8))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), num_atoms=st.integers(1, 6))
@example(seed=110, num_atoms=3)  # an atom has exactly the mean electronegativity
def test_they_do_not_depend_on_the_choice_of_cell(seed: int, num_atoms: int) -> None:
    crystal = random_crystals([num_atoms], seed)[0]
    other = moved(crystal, np.random.default_rng(seed))
    features = Bonds().compute(table_of(crystal, other, doubled(crystal)))
    np.testing.assert_allclose(features[1:], features[[0, 0]], rtol=1e-6, atol=1e-6)


def test_crystals_of_a_table_do_not_mix() -> None:
    table = random_crystals([3, 1, 5])
    together = Bonds().compute(table)
    apart = np.concatenate([Bonds().compute(table.take([row])) for row in range(3)])
    np.testing.assert_allclose(together, apart, rtol=1e-9)
    assert Bonds().compute(table.take([])).shape == (0, 35)
