import pytest
from hypothesis import given
from hypothesis import strategies as st

from matwheel.option_errors import explain


@given(st.text())
def test_what_is_not_known_is_left_as_it_is(message: str) -> None:
    assert explain(message) == message.strip()


@pytest.mark.parametrize(
    ("message", "explained"),
    [
        ("unrecognized arguments: --dataset 3", "there is no option '--dataset'. --help lists those there are"),
        (
            'Parser key "model":\n  - Parser key "network":\n  - Expected a dot import path string: CrystalTable',
            "CrystalTable is no class for the option 'network': --help says what it takes",
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
            "Problem with given class_path 'fractions.Fraction':\n  Validation failed: Key 'numeratr' is not expected",
            "Fraction has no option 'numeratr'; did you mean 'numerator'?",
        ),
    ],
)
def test_what_is_known_is_a_line(message: str, explained: str) -> None:
    import matwheel.data.crystal  # noqa: F401 (the class must be known)

    assert explain(message) == explained
