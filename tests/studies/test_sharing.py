from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.studies.grid import Cell, Settings, expand
from matwheel.studies.sharing import leaders, take_stages
from tests.e2e.toy_wheel import ledger, spin
from tests.small_data import write_small_table

LABELS = {"split": ["0", "1"], "ratio": ["0.5", "1", "2"], "model": ["a", "b"]}
CONFIG = Settings((Path("full.yaml"),))


@given(st.sets(st.sampled_from(sorted(LABELS))))
def test_the_first_of_those_that_differ_in_shared_axes_leads(shared: set[str]) -> None:
    cells = expand(CONFIG, {axis: {label: Settings() for label in labels} for axis, labels in LABELS.items()})
    by_name = {cell.name: cell for cell in cells}
    leader = leaders(cells, sorted(shared))
    for cell in cells:
        first = by_name[leader[cell.name]]
        differing = {axis for axis in LABELS if first.labels[axis] != cell.labels[axis]}
        assert differing <= shared
        assert all(first.labels[axis] == LABELS[axis][0] for axis in shared)
        assert leader[first.name] == first.name


def test_without_shared_axes_each_cell_is_on_its_own() -> None:
    cells = [Cell({"split": label}, CONFIG) for label in "01"]
    assert leaders(cells, ()) == {"split=0": "split=0", "split=1": "split=1"}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    stage = tmp_path / "finished" / "stages" / "generator"
    stage.mkdir(parents=True)
    (stage / "stage.json").write_text("{}")
    return tmp_path / "finished"


def test_stages_are_copied_to_a_run_that_has_not_begun(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "new" / "stages.incomplete" / "half").mkdir(parents=True)  # of an earlier attempt
    take_stages(finished, tmp_path / "new")
    assert [str(path.relative_to(tmp_path / "new")) for path in sorted((tmp_path / "new").rglob("*"))] == [
        *("stages", "stages/generator", "stages/generator/stage.json")
    ]


def test_a_run_that_has_begun_keeps_its_own(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "begun" / "stages").mkdir(parents=True)
    take_stages(finished, tmp_path / "begun")
    assert not list((tmp_path / "begun" / "stages").iterdir())


def test_a_run_without_stages_gives_none(tmp_path: Path) -> None:
    take_stages(tmp_path / "nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_shared_generator_changes_nothing_but_the_time(tmp_path: Path) -> None:
    table = write_small_table(tmp_path / "small.xyz")
    arms = {"arms": ("F", "F+G_F"), "baselines": ()}
    spin(tmp_path / "one", table, synthetic_ratio=1.0, **arms)
    spin(tmp_path / "two", table, synthetic_ratio=2.0, **arms)
    take_stages(tmp_path / "one", tmp_path / "shared")
    spin(tmp_path / "shared", table, synthetic_ratio=2.0, **arms)
    one, shared = ledger(tmp_path / "one"), ledger(tmp_path / "shared")
    assert {name for name in shared if shared[name] == one[name]} == {
        *("generator", "prior", "predictor-F", "statistics-real")
    }
    results = [pd.read_csv(tmp_path / name / "results.csv").drop(columns="seconds") for name in ("two", "shared")]
    pd.testing.assert_frame_equal(*results, check_exact=True)
