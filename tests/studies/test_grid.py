import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.flywheel.results import COLUMNS
from matwheel.studies.grid import Cell, Settings, expand

CONFIG = Settings((Path("full.yaml"),))
LABELS = st.from_regex(r"[A-Za-z0-9_.+-]{1,6}", fullmatch=True)
AXES = st.dictionaries(
    st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(lambda axis: axis not in COLUMNS),
    st.lists(LABELS, min_size=1, max_size=3, unique=True),
    min_size=1,
    max_size=4,
)


def _grid(axes: dict[str, list[str]]) -> dict[str, dict[str, Settings]]:
    return {
        axis: {label: Settings(options=((f"{axis}.option", label),)) for label in labels}
        for axis, labels in axes.items()
    }


@given(AXES)
def test_the_cells_are_the_product_of_the_axes(axes: dict[str, list[str]]) -> None:
    cells = expand(CONFIG, _grid(axes))
    assert [tuple(cell.labels.values()) for cell in cells] == list(itertools.product(*axes.values()))
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        assert dict(cell.settings.options) == {f"{axis}.option": label for axis, label in cell.labels.items()}
        assert Path(cell.name).name == cell.name


@given(AXES, st.data())
def test_an_axis_of_one_value_adds_no_cell(axes: dict[str, list[str]], data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from(sorted(axes)))
    fixed = {**axes, axis: axes[axis][:1]}
    assert len(expand(CONFIG, _grid(axes))) == len(axes[axis]) * len(expand(CONFIG, _grid(fixed)))


def test_configs_and_options_are_in_the_order_of_the_file() -> None:
    base = Settings((Path("full.yaml"),), (("trainer.max_epochs", 40), ("data.split", "FileSplit")))
    grid = {
        "scenario": {
            "full": Settings((Path("full.yaml"),)),
            "semi": Settings((Path("semi.yaml"),), (("data.labelled_fraction", 0.1),)),
        },
        "split": {"1": Settings(options=(("data.split.index", 1), ("data.conditions", ["a", "b"]), ("x", None)))},
    }
    full, semi = expand(base, grid)
    wide, plain = expand(base + Settings((Path("wide.yaml"),)), {"x": {"wide": Settings(), "plain": CONFIG}})
    assert wide.arguments()[:4] == ["-c", "full.yaml", "-c", "wide.yaml"]
    assert plain.arguments()[:4] == ["-c", "wide.yaml", "-c", "full.yaml"], "later configs win"
    assert semi.name == "scenario=semi,split=1"
    assert full.arguments()[:4] == ["-c", "full.yaml", "--trainer.max_epochs", "40"]
    assert semi.arguments() == [
        *("-c", "full.yaml", "-c", "semi.yaml", "--trainer.max_epochs", "40", "--data.split", "FileSplit"),
        *("--data.labelled_fraction", "0.1", "--data.split.index", "1", "--data.conditions", '["a", "b"]'),
        *("--x", "null"),
    ]


@pytest.mark.parametrize("value", [True, 1, 0.5, "F x k", None, [1, "a"], {"a": 1}])
def test_options_are_yaml(value: object) -> None:
    import yaml

    (_, text) = Cell({}, Settings(options=(("option", value),))).arguments()
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("base", "grid", "message"),
    [
        (CONFIG, {}, "no axis"),
        (CONFIG, {"seed": {}}, "axis seed has no value"),
        (CONFIG, {"a b": {"0": CONFIG}}, "'a b' cannot be the name of an axis"),
        (CONFIG, {"a": {"../x": CONFIG}}, r"'\.\./x' cannot name a value"),
        (CONFIG, {"n_real": {"0": CONFIG}}, "n_real is a column"),
        (CONFIG, {"predictor": {"0": CONFIG}}, "predictor is a column of the results: give the axis another name"),
        (Settings(), {"a": {"0": Settings()}}, "a=0 has no config"),
        (CONFIG, {axis: {"0": Settings(options=(("x", 1),))} for axis in "ab"}, "axes a and b both set x"),
    ],
)
def test_grids_that_cannot_be_run(base: Settings, grid: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(base, grid)
