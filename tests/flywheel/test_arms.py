from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from matwheel.data.crystal import FloatArray
from matwheel.data.module import CrystalDataModule
from matwheel.data.splits import RandomSplit
from matwheel.flywheel.arms import ARMS, DEFAULT_ARMS, REAL_ARM, Arm, ArmName, Scenario, roles_of
from matwheel.flywheel.fingerprint import data_fingerprint
from tests.small_data import write_small_table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("data") / "small.xyz", count=20)


def _data(table: Path, labelled_fraction: float = 0.5) -> CrystalDataModule:
    data = CrystalDataModule(
        str(table),
        "poly_total",
        split=RandomSplit(0.6, 0.2, 0.2),
        labelled_fraction=labelled_fraction,
        cache_dir=table.parent / "cache",
    )
    data.prepare_data()
    data.setup("fit")
    return data


def _nobody() -> FloatArray:
    raise AssertionError("nobody needs labels")


def _targets(data: CrystalDataModule) -> FloatArray:
    return data.training_table.properties["poly_total"]


def test_the_tables_of_arms_are_consistent() -> None:
    assert sorted(name for arms in ARMS.values() for name in arms) == sorted(get_args(ArmName))
    for scenario, arms in ARMS.items():
        assert set(DEFAULT_ARMS[scenario]) < set(arms)
        assert arms[REAL_ARM[scenario]] == Arm("known")
        for arm in arms.values():
            assert {arm.size_of, arm.start} - {None} <= set(arms)


def test_the_scenario_follows_from_the_labels(table: Path) -> None:
    assert Scenario(_data(table)).name == "semi"
    full = Scenario(_data(table, 1.0))
    assert full.name == "full"
    assert full.known_key == data_fingerprint(_data(table, 1.0))


def test_real_crystals_under_each_kind_of_labels(table: Path) -> None:
    data = _data(table)
    scenario = Scenario(data)
    assert data.split_rows is not None
    train, labelled = data.split_rows.train, data.split_rows.labelled
    truth = data.table.properties["poly_total"]
    pseudo = np.arange(12) + 1000.0
    assert len(scenario.real(None, _nobody).train_rows) == 0
    np.testing.assert_array_equal(_targets(scenario.real("known", _nobody)), truth[labelled])
    np.testing.assert_array_equal(_targets(scenario.real("true", _nobody)), truth[train])
    np.testing.assert_array_equal(_targets(scenario.real("pseudo", lambda: pseudo)), pseudo)
    completed = np.where(np.isin(train, labelled), truth[train], pseudo)
    np.testing.assert_array_equal(_targets(scenario.real("completed", lambda: pseudo)), completed)
    np.testing.assert_array_equal(data.table.properties["poly_total"], truth)


@pytest.mark.parametrize("poison", [np.nan, -1e30, np.inf])
def test_hidden_labels_leave_no_trace(table: Path, poison: float) -> None:
    data, poisoned = _data(table), _data(table)
    hidden = Scenario(data).unlabelled_rows
    assert len(hidden) == 6
    poisoned.table.properties["poly_total"][hidden] = poison
    poisoned.use_training()
    one, other = Scenario(data), Scenario(poisoned)
    pseudo = np.linspace(1, 9, 12)
    for labels in (None, "known", "pseudo", "completed"):
        keys = [data_fingerprint(scenario.real(labels, lambda: pseudo)) for scenario in (one, other)]  # type: ignore[arg-type]
        assert keys[0] == keys[1]
    assert data_fingerprint(one.real("true", _nobody)) != data_fingerprint(other.real("true", _nobody))


def test_which_arms_change_between_rounds(table: Path) -> None:
    semi, full = Scenario(_data(table)), Scenario(_data(table, 1.0))
    assert [name for name in full.arms if not full.changes(name)] == ["F"]
    assert [name for name in semi.arms if not semi.changes(name)] == ["S", "S+G_true"]
    assert [name for name in semi.arms if not semi.needs_a_turn(name)] == ["S"]
    sources = {name: semi.source(name) for name in semi.arms}
    assert sources == {
        "S": None,
        "S+P": None,
        "S x k": None,
        "G_S": "pseudo",
        "G_S then S": "pseudo",
        "S+G_true": "true",
        "S+G_S": "pseudo",
    }


def test_a_split_without_validation_is_refused(table: Path) -> None:
    data = CrystalDataModule(
        str(table), "poly_total", split=RandomSplit(0.8, 0.0, 0.2), cache_dir=table.parent / "cache"
    )
    data.setup("fit")
    with pytest.raises(ValueError, match="validation and test rows"):
        Scenario(data)


def test_roles() -> None:
    assert roles_of("full") == ("F", "F+G_F", "F x k", "G_F")
    assert roles_of("semi") == ("S", "S+G_S", "S x k", "G_S")
