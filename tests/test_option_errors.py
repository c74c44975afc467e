from textwrap import indent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.option_errors import explain


@given(st.text(max_size=300))
def test_what_is_not_known_is_left_as_it_is(message: str) -> None:
    assert explain(message) == " ".join(message.split())


@pytest.mark.parametrize("start", ["", "Unexpected config: ", 'Parser key "a":\n  - Unexpected import path format: '])
def test_a_file_where_something_else_belongs_is_not_printed(start: str) -> None:
    assert len(explain(start + "0.25 0.25\n" * 1000)) <= 300


@pytest.mark.parametrize(
    ("message", "explained"),
    [
        ("unrecognized arguments: --datum.x 3", "there is no option '--datum.x'. --help lists those there are"),
        (
            'Parser key "model":\n  - Parser key "network":\n  - Expected a dot import path string: CrystalTable',
            "CrystalTable is no class for the option 'network': --help says what it takes",
        ),
        (
            "--data.help: Expected a dot import path string: CrystalTabel",
            "there is no class 'CrystalTabel'; did you mean 'CrystalTable'? A class of the package is known by its "
            "name, any other by module and name (package.module.Class)",
        ),
        (
            "the following arguments are required: fit.model",
            "no config names a model: give one, such as -c predictor/cgcnn.yaml or -c flywheel/full.yaml",
        ),
        (
            "--data.help: Expected a dot import path string: CrystalTable",
            "CrystalTable is no class for the option 'data': --help says what it takes",
        ),
        (
            "Problem with given class_path 'lightning.LightningDataModule':\n  Option 'dataset' is not accepted",
            "the option 'dataset' is of a class that no config names: give a config before it, such as "
            "-c predictor/cgcnn.yaml or -c flywheel/full.yaml",
        ),
        (
            "Problem with given class_path 'matwheel.models.latents.LatentDataModule':\n  Option 'dataset' is not "
            "accepted",
            "LatentDataModule has no option 'dataset'; did you mean 'crystals.dataset'?",
        ),
        (
            'Parser key "seed":\n  Does not validate against any of the Union subtypes\n  Subtypes: [bool, int]\n'
            "  Errors:\n    - Expected a <class 'bool'>\n    - Expected a <class 'int'>\n  Given value type: "
            "<class 'str'>\n  Given value: abc",
            "option 'seed' must be a whole number or true or false, not 'abc'",
        ),
        (
            'Parser key "model":\n - Expected a dot import path string: Zzzzz',
            "there is no class 'Zzzzz'. A class of the package is known by its name, any other by module and name "
            "(package.module.Class)",
        ),
        (
            "Problem with given class_path 'fractions.Fraction':\n  Option 'numeratr' is not accepted",
            "Fraction has no option 'numeratr'; did you mean 'numerator'?",
        ),
        (
            "Problem with given class_path 'matwheel.data.module.CrystalDataModule':\n  unrecognized arguments: "
            "--structure-column",
            "CrystalDataModule has no option 'structure-column'; did you mean 'structure_column'?",
        ),
        (
            "Problem with given class_path 'fractions.Fraction':\n  Validation failed: Key 'numeratr' is not expected",
            "Fraction has no option 'numeratr'; did you mean 'numerator'?",
        ),
    ],
)
def test_what_is_known_is_a_line(message: str, explained: str) -> None:
    import matwheel.data.crystal  # noqa: F401 (the class must be known)

    assert explain(message) == explained


CALLBACKS = """Parser key "trainer.callbacks":
  Does not validate against any of the Union subtypes
  Subtypes: [list[lightning.pytorch.callbacks.callback.Callback], <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'matwheel.flywheel.callback.Flywheel':
        Parser key "{option}":
{reason}
    - Problem with given class_path 'lightning.Callback':
        Option '{option}' is not accepted
    - Expected a <class 'NoneType'>
  Given value type: <class 'jsonargparse._util.NestedArg'>
  Given value: NestedArg(key='{option}', val='given')"""


@pytest.mark.parametrize(
    ("reason", "explained"),
    [
        ("Expected a <class 'float'>. Got value: two", "option 'x' must be a number, not 'two'"),
        (
            "Expected a typing.Literal['latents', 'encoder']. Got value: latnts",
            "option 'x' must be one of 'latents', 'encoder', not 'latnts'",
        ),
        (
            "Does not validate against any of the Union subtypes\nSubtypes: [list[str], <class 'NoneType'>]\nErrors:\n"
            "  - Expected a <class 'list'>\n  - Expected a <class 'NoneType'>\nGiven value type: <class 'str'>\n"
            "Given value: zeros",
            """option 'x' must be a list, such as '["zeros"]', not 'zeros'""",
        ),
        (
            "\n- Expected a path but Foo either not accessible or invalid\n- Does not validate against any of the "
            "Union subtypes\nErrors:\n  - Expected a dot import path string: Foo\n  - Expected a <class 'NoneType'>",
            "there is no class 'Foo'. A class of the package",
        ),
        (
            "Type collections.abc.Callable[[int], str] expects a function or a callable class: Option 'numeratr' is "
            "not accepted. Got value: Namespace(class_path='fractions.Fraction', init_args=Namespace(numeratr='0.2'))",
            "Fraction has no option 'numeratr'; did you mean 'numerator'?",
        ),
        (
            "Expected an instantiatable class, but matwheel.flywheel.sources.CrystalSource is abstract",
            "options of 'x' come after its class: give 'x' as ",
        ),
        ("strain must be\npositive", "option 'x': strain must be positive"),
    ],
)
def test_a_wrong_value_of_a_callback_is_not_blamed_on_the_class_of_all_callbacks(reason: str, explained: str) -> None:
    import matwheel.flywheel.callback  # noqa: F401 (the classes must be known)

    message = CALLBACKS.format(option="x", reason=indent(reason, " " * 10))
    assert explain(message).startswith(explained)


def test_what_a_constructor_refuses_is_all_that_is_said() -> None:
    message = (
        "Does not validate against any of the Union subtypes\nSubtypes: [<class 'NoneType'>]\nErrors:\n"
        "  - rounds (0) must be\n    at least 1\n  - Not a valid subclass of Callback\n    Subclass types expect:\n"
        "    - a class path (str)\nGiven value type: <class 'list'>\nGiven value: [Namespace(rounds=0)]"
    )
    assert explain(message) == "rounds (0) must be at least 1"
