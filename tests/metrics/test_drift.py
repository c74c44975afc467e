from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.metrics.composition import composition_fingerprints
from matwheel.metrics.drift import element_frequencies, set_statistics


def _table(*compositions: list[int], prefix: str = "c") -> CrystalTable:
    rng = np.random.default_rng(0)
    return CrystalTable.from_crystals(
        Crystal(f"{prefix}{i}", 4 * np.eye(3), rng.random((len(numbers), 3)), np.array(numbers))
        for i, numbers in enumerate(compositions)
    )


REAL = _table([11, 17], [12, 8], [19, 35], [20, 16], prefix="real")


def test_every_crystal_counts_alike() -> None:
    frequencies = element_frequencies(_table([11, 17], [8, 8, 8, 22]))
    assert frequencies[[10, 16, 7, 21]].tolist() == [0.25, 0.25, 0.375, 0.125]
    assert frequencies.sum() == pytest.approx(1)


def test_the_real_crystals_themselves() -> None:
    statistics = set_statistics(REAL, np.arange(101.0), REAL)
    assert statistics.element_drift == 0
    assert (statistics.label_q05, statistics.label_q50, statistics.label_q95) == (5, 50, 95)
    points = composition_fingerprints(REAL)
    distances = np.sqrt(np.square(points[:, None] - points).mean(2))[~np.eye(4, dtype=bool)].reshape(4, 3)
    assert statistics.diversity == pytest.approx(distances.mean())
    assert statistics.nearest_training == pytest.approx(distances.min(1).mean())


def test_copies_and_strangers() -> None:
    copies = set_statistics(_table([11, 17], [17, 11, 17, 11]), np.ones(2), REAL)
    assert copies.nearest_training == pytest.approx(0, abs=1e-9)
    assert copies.diversity == pytest.approx(0, abs=1e-9)
    strangers = set_statistics(_table([26, 26], [57, 28]), np.ones(2), REAL)
    assert strangers.element_drift == pytest.approx(1)
    assert strangers.nearest_training > copies.nearest_training
    assert np.isnan(set_statistics(_table([26]), np.ones(1), REAL).diversity)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.integers(3, 30), min_size=1, max_size=4), min_size=2, max_size=6),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter(compositions: list[list[int]], random: Random) -> None:
    shuffled = list(compositions)
    random.shuffle(shuffled)
    one, other = (set_statistics(_table(*c), np.ones(2), REAL) for c in (compositions, shuffled))
    assert 0 <= one.element_drift <= 1 + 1e-12
    for name in ("element_drift", "diversity", "nearest_training"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
