"""CHGNet through the interface of potentials."""

from dataclasses import replace

import numpy as np
import pytest

from matwheel.data.crystal import Crystal
from matwheel.metrics.potential import CHGNet
from tests.metrics.crystals import rock_salt

pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')


def _strained() -> Crystal:
    salt = rock_salt()
    strain = np.array([[0.02, 0.01, 0], [0.01, -0.02, 0.015], [0, 0.015, 0.03]])
    moved = salt.frac_coords + np.array([[0.0, 0.0, 0.02], [0.0, 0.0, 0.0]])
    return replace(salt, lattice=salt.lattice @ (np.eye(3) + strain), frac_coords=moved)


def test_energy_forces_and_virial_are_those_of_the_package() -> None:
    from chgnet.model import CHGNet as Network

    crystals = [_strained(), rock_salt(12, 8, 4.2)]
    network = Network.load(use_device="cpu", verbose=False)
    for crystal, outcome in zip(crystals, CHGNet().evaluate(crystals), strict=True):
        theirs = network.predict_structure(crystal.to_structure(), task="efs")
        assert outcome.value.energy / 2 == pytest.approx(float(theirs["e"]), abs=1e-5)
        np.testing.assert_allclose(outcome.value.forces, theirs["f"], atol=1e-4)
        gigapascal = -outcome.value.virial / crystal.volume * 160.2177
        np.testing.assert_allclose(gigapascal, theirs["s"], atol=1e-3)


def test_rock_salt_is_known_and_oxides_are_bound() -> None:
    salt, compressed = CHGNet().evaluate([rock_salt(length=5.69), rock_salt(length=5.0)])
    assert np.abs(salt.value.forces).max() < 0.01
    assert np.abs(salt.value.virial).max() < 0.3
    assert np.trace(compressed.value.virial) > 3  # it pushes outwards
    assert compressed.value.energy > salt.value.energy
    reference = CHGNet().reference_energy(np.array([11, 17]))
    assert reference == pytest.approx(
        sum(CHGNet().reference_energy(np.array([number])) for number in (11, 17)), abs=1e-9
    )


def test_what_it_cannot_do_is_a_failure_of_one_crystal() -> None:
    alone = Crystal("alone", 30 * np.eye(3), np.zeros((1, 3)), np.array([11]))
    heavy = rock_salt(99, 17)
    outcomes = CHGNet().evaluate([alone, rock_salt(), heavy])
    assert [outcome.failure for outcome in outcomes] == [
        "isolated atom",
        "",
        "the potential knows the elements up to number 94",
    ]
    assert [outcome.failure for outcome in CHGNet().evaluate([alone])] == ["isolated atom"]


def test_a_missing_package_is_named_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matwheel.metrics.potential.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"matwheel\[potentials\]\""):
        CHGNet()
