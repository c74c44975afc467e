from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.metrics.coverage import CoverageCutoffs, coverage
from matwheel.metrics.fingerprints import (
    NOT_A_CELL,
    STRUCTURE_LENGTH,
    Fingerprints,
    nearest,
    structure_fingerprint,
)
from matwheel.metrics.memorisation import nearest_reference
from matwheel.metrics.pool import TIME_OUT, Pool
from tests.metrics.crystals import POOL, caesium_chloride, doubled, moved, rock_salt, table_of


def _random(rng: np.random.Generator, n: int, unknown: int = 0) -> Fingerprints:
    structure, composition = rng.random((n, STRUCTURE_LENGTH)), 4 * rng.random((n, 132))
    structure[:unknown] = np.nan
    return Fingerprints(structure, composition, tuple(["time-out"] * unknown + [""] * (n - unknown)))


@pytest.fixture(scope="module")
def salts() -> CrystalTable:
    flat = Crystal("flat", np.diag([5.0, 5, 0.03]), np.zeros((1, 3)), np.array([11]))
    return table_of(
        rock_salt(), doubled(rock_salt()), moved(rock_salt(), np.random.default_rng(0)), caesium_chloride(), flat
    )


@pytest.fixture(scope="module")
def fingerprints(salts: CrystalTable) -> Fingerprints:
    return Fingerprints.of(salts, POOL)


def test_the_fingerprint_knows_crystals_and_not_cells(fingerprints: Fingerprints) -> None:
    salt, supercell, rotated, other, _ = fingerprints.structure
    np.testing.assert_allclose(supercell, salt, atol=1e-6)
    np.testing.assert_allclose(rotated, salt, atol=1e-6)
    assert np.linalg.norm(other - salt) > 0.5


def test_no_fingerprint_is_a_failure_with_a_reason(fingerprints: Fingerprints) -> None:
    assert fingerprints.known.tolist() == [True] * 4 + [False]
    assert fingerprints.failures[4] == "no sane cell"
    assert np.isnan(fingerprints.structure[4]).all()


def test_an_element_without_a_fingerprint_is_named() -> None:
    structure_fingerprint(rock_salt(96))
    with pytest.raises(ValueError, match="no fingerprint for Es"):
        structure_fingerprint(rock_salt(99))


def test_failures_count_against_precision(fingerprints: Fingerprints) -> None:
    itself = coverage(fingerprints, fingerprints)
    assert itself.precision == itself.recall == 0.8


def test_the_site_mean_is_that_of_matminer() -> None:
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
    from matminer.featurizers.structure import SiteStatsFingerprint

    crystal = caesium_chloride()
    expected = SiteStatsFingerprint(CrystalNNFingerprint.from_preset("ops"), stats=("mean",)).featurize(
        crystal.to_structure()
    )
    np.testing.assert_allclose(structure_fingerprint(crystal), expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_coverage_of_sets(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    some, others = _random(rng, n), _random(rng, m)
    assert coverage(some, some, CoverageCutoffs(1e-9, 1e-9)).precision == 1
    cutoffs = CoverageCutoffs(3.0, 13.0)
    result, reverse = coverage(some, others, cutoffs), coverage(others, some, cutoffs)
    np.testing.assert_array_equal(result.generated, reverse.reference)
    order = rng.permutation(n)
    permuted = coverage(some.take(order), others, cutoffs)
    np.testing.assert_array_equal(permuted.generated, result.generated[order])
    np.testing.assert_array_equal(permuted.reference, result.reference)
    wider = coverage(some, others, CoverageCutoffs(3.2, 14.0))
    assert wider.precision >= result.precision
    assert wider.recall >= result.recall


def test_both_distances_must_be_small() -> None:
    structure = np.zeros((3, STRUCTURE_LENGTH))
    composition = np.zeros((3, 132))
    structure[1, 0], composition[2, 0] = 0.41, 10.1
    generated = Fingerprints(structure, composition, ("",) * 3)
    assert coverage(generated, generated.take([0])).generated.tolist() == [True, False, False]
    near = nearest_reference(generated, generated.take([0]))
    np.testing.assert_allclose(near.distance, [0, 0.41 / 0.4, 1.01])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(0, 2))
def test_nearest_reference_is_the_smallest_of_all_pairs(seed: int, n: int, unknown: int) -> None:
    rng = np.random.default_rng(seed)
    generated, reference = _random(rng, n, unknown=min(unknown, n)), _random(rng, 5, unknown=1)
    near = nearest_reference(generated, reference)
    for row in range(n):
        pairs = [
            max(
                np.linalg.norm(generated.structure[row] - reference.structure[other]) / 0.4,
                np.linalg.norm(generated.composition[row] - reference.composition[other]) / 10,
            )
            for other in range(1, 5)
        ]
        if row < min(unknown, n):
            assert (near.row[row], near.distance[row]) == (-1, np.inf)
        else:
            assert near.row[row] == 1 + int(np.argmin(pairs))
            assert near.distance[row] == pytest.approx(min(pairs))


def test_a_row_is_not_its_own_neighbour() -> None:
    some = _random(np.random.default_rng(0), 4)
    assert (nearest_reference(some, some).row == np.arange(4)).all()
    others = nearest_reference(some, some, other_rows=True)
    assert (others.row != np.arange(4)).all()
    assert (nearest_reference(some.take([0]), some.take([0]), other_rows=True).row == -1).all()


def test_nobody_is_near_to_nothing() -> None:
    some = _random(np.random.default_rng(0), 2)
    empty = some.take([])
    assert coverage(some, empty).precision == 0
    assert np.isnan(coverage(empty, some).precision)
    assert nearest(some.structure, empty.structure).row.tolist() == [-1, -1]


def test_the_cache_gives_back_what_was_computed(tmp_path: Path) -> None:
    table = table_of(rock_salt(), caesium_chloride())
    made = Fingerprints.cached(table, POOL, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    again = Fingerprints.cached(table, None, tmp_path)
    np.testing.assert_array_equal(again.structure, made.structure)
    np.testing.assert_array_equal(again.composition, made.composition)
    assert again.failures == made.failures


def test_a_crystal_without_fingerprint_does_not_keep_the_others_from_the_cache(
    tmp_path: Path, salts: CrystalTable
) -> None:
    table = salts.take([0, 4])
    made = Fingerprints.cached(table, POOL, tmp_path)
    assert made.failures == ("", NOT_A_CELL)
    (stored,) = tmp_path.iterdir()
    before = stored.stat().st_mtime_ns
    again = Fingerprints.cached(table, None, tmp_path)
    np.testing.assert_array_equal(again.structure, made.structure)
    assert again.failures == made.failures
    assert stored.stat().st_mtime_ns == before


def test_what_a_slow_machine_did_not_finish_is_not_cached(tmp_path: Path, salts: CrystalTable) -> None:
    made = Fingerprints.cached(salts.take([0, 4]), Pool(processes=1, timeout=1e-9), tmp_path)
    assert made.failures == (TIME_OUT, NOT_A_CELL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cutoffs", [(0, 1), (1, -1), (float("nan"), 1)])
def test_cutoffs_must_be_positive(cutoffs: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        CoverageCutoffs(*cutoffs)


def test_a_cache_that_may_not_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert Fingerprints.cached(table_of(rock_salt()), POOL, tmp_path / "file" / "cache").known.all()
    assert "cannot write" in caplog.text
    assert "MATWHEEL_CACHE" in caplog.text
