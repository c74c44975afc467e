import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matwheel.data.crystal import Crystal, CrystalTable
from matwheel.flywheel.filters import BasicFilter, FilterStep
from matwheel.flywheel.fingerprint import describe
from matwheel.flywheel.generation import _NOT_OF_FILTER
from matwheel.flywheel.stages import filter_crystals
from matwheel.flywheel.verifier import Verifier
from matwheel.metrics.pool import Pool
from matwheel.metrics.relaxation import RelaxationSettings
from tests.metrics.crystals import POOL, rock_salt
from tests.metrics.toy_potential import FAILS, Springs

LOOSE = BasicFilter(composition=False)
REAL = CrystalTable.from_crystals(
    rock_salt(cation, anion, length=5.0, id=f"real-{cation}-{anion}") for cation in (3, 11, 19) for anion in (9, 17, 35)
)


def _sample(crystal: Crystal, index: int) -> Crystal:
    return replace(crystal, id=f"syn-{index}", properties={"gap": float(index)}, origin=json.dumps({"index": index}))


def _samples(*crystals: Crystal) -> CrystalTable:
    return CrystalTable.from_crystals(_sample(crystal, index) for index, crystal in enumerate(crystals))


def _verifier(**options: object) -> Verifier:
    settings = {"basic": LOOSE, "potential": Springs(), "pool": POOL, "relaxation": RelaxationSettings(5), **options}
    return Verifier(**settings)


def test_relaxed_crystals_replace_the_samples_and_are_checked_again(tmp_path: Path) -> None:
    samples = _samples(
        rock_salt(37, 17, 5.4),
        rock_salt(FAILS, 17, 5.4),
        rock_salt(55, 17, 5.4),
        rock_salt(11, 17, 5.0),  # in the training set
    )
    metrics = filter_crystals(_verifier(energy_quantile=None), samples, REAL, tmp_path)
    kept = CrystalTable.load(tmp_path / "crystals.npz")
    assert kept.ids.tolist() == ["syn-0", "syn-2"]
    assert kept.properties["gap"].tolist() == [0.0, 2.0]
    origin = json.loads(kept.origins[1])
    assert origin["index"] == 2
    assert origin["relaxation"] == {
        "potential": "Springs",
        "distance": 2.5,
        "cutoff": 4.0,
        "max_steps": 5,
        "max_force": 0.1,
        "max_move": 0.2,
        "fixed_cell": False,
        "steps": origin["relaxation"]["steps"],
        "energy_drop": origin["relaxation"]["energy_drop"],
    }
    assert origin["relaxation"]["energy_drop"] > 0
    assert np.abs(kept.lattices[1] - samples.lattices[2]).max() > 0.01
    report = {step["name"]: step for step in json.loads((tmp_path / "filter.json").read_text())}
    assert list(report) == [
        "cell",
        "structure",
        "unique",
        "novel",
        "relaxation",
        "cell after relaxation",
        "structure after relaxation",
        "unique after relaxation",
        "novel after relaxation",
    ]
    assert (report["novel"]["before"], report["novel"]["after"]) == (4, 3)
    assert report["relaxation"]["failures"] == {"no neon": 1}
    assert report["relaxation"]["rate"] == metrics["relaxation"] == pytest.approx(2 / 3)
    assert metrics["kept"] == 2


def test_two_samples_that_relax_to_one_crystal_are_one() -> None:
    salt = rock_salt(37, 17, 5.0)
    samples = _samples(salt, replace(salt, lattice=salt.lattice * [1.45, 1, 1]))
    result = _verifier(energy_quantile=None, relaxation=RelaxationSettings(200, 0.01)).apply(samples, REAL)
    steps = {step.name: step.after for step in result.steps}
    assert (steps["unique"], steps["relaxation"], steps["unique after relaxation"]) == (2, 2, 1)


def test_crystals_of_unusual_energy_are_removed() -> None:
    samples = _samples(rock_salt(37, 17, 5.0), rock_salt(FAILS, 17, 5.0), rock_salt(37, 17, 9.0))
    known = CrystalTable.concatenate([REAL, samples])  # earlier synthetic crystals do not say what is usual

    def energy_step(margin: float) -> tuple[list[str], FilterStep]:
        basic = BasicFilter(composition=False, duplicates=False)
        verifier = _verifier(basic=basic, relaxation=None, energy_quantile=1.0, energy_margin=margin)
        result = verifier.apply(samples, known)
        return result.crystals.ids.tolist(), result.steps[-1]

    kept, step = energy_step(0.2)
    assert kept == ["syn-0"]  # the last one's atoms are too far apart to be bound
    assert (step.name, step.before, step.after, step.failures) == ("energy", 3, 1, {"no neon": 1})
    assert step.numbers["real_without_energy"] == 0
    kept, generous = energy_step(1e3)
    assert kept == ["syn-0", "syn-2"]
    assert generous.numbers["threshold"] == pytest.approx(step.numbers["threshold"] + 999.8)
    assert energy_step(-1e3)[0] == []


def test_nothing_comes_of_nothing() -> None:
    result = _verifier(energy_quantile=None).apply(_samples(rock_salt(11, 17, 5.0)), REAL)
    assert len(result.crystals) == 0
    assert result.steps[-1].before == 0


def test_energies_of_real_crystals_are_not_computed_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise AssertionError("no sample is left to compare with real crystals")

    monkeypatch.setattr("matwheel.flywheel.verifier.UsualEnergies.of", nobody)
    result = _verifier().apply(_samples(rock_salt(11, 17, 5.0)), REAL)
    assert len(result.crystals) == 0
    assert (result.steps[-1].name, result.steps[-1].before) == ("energy", 0)


def test_the_identity_of_a_verifier_is_what_its_result_depends_on() -> None:
    def key(**options: object) -> object:
        return describe(_verifier(**options), skip=_NOT_OF_FILTER)

    assert key(pool=Pool(1)) == key(pool=Pool(2, progress=True)) != key(pool=Pool(1, timeout=5.0))
    assert key(energy_margin=0.1) != key() != key(potential=Springs(2.6))
    assert describe(BasicFilter(), skip=_NOT_OF_FILTER) == describe(BasicFilter())


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="energy quantile"):
        _verifier(energy_quantile=1.5)


def test_kept_crystals_are_described_in_reduced_cells(tmp_path: Path) -> None:
    """As real ones are, for features that depend on the cell."""
    salt = rock_salt(37, 17, 5.4)
    shear = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    skewed = replace(salt, lattice=shear @ salt.lattice, frac_coords=salt.frac_coords @ np.linalg.inv(shear) % 1)
    for reduce_cells, expected in ((False, skewed), (True, salt)):
        filter_crystals(LOOSE, _samples(skewed), REAL, tmp_path, reduce_cells=reduce_cells)
        kept = CrystalTable.load(tmp_path / "crystals.npz")
        found = [np.sort(np.linalg.norm(lattice, axis=1)) for lattice in (kept.lattices[0], expected.lattice)]
        np.testing.assert_allclose(*found)
