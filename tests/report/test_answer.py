from dataclasses import replace

import pytest

from matwheel.flywheel.results import ResultRow
from matwheel.report.answer import Verdict, answer, verdict
from matwheel.report.comparison import compare
from matwheel.report.folders import Measurement, reference_name
from tests.report.written_runs import full_rows


def measurements(mixed: list[float], without: str = "", overlap: float | None = 0.25) -> list[Measurement]:
    """A split for each error of the arm with both kinds of crystals; F has 6.0, the control 5.8."""
    rows: list[ResultRow] = []
    for number, error in enumerate(mixed):
        rows += full_rows(f"split-{number}", shift=number, mixed=error)
    return [Measurement(row, (), overlap) for row in rows if row.arm != without]


@pytest.mark.parametrize(
    ("mixed", "without", "expected"),
    [
        ([5.0, 5.01, 5.02, 5.03], "", Verdict.HELPED),
        ([5.8, 5.81, 5.79, 5.78], "", Verdict.ONLY_SIZE),
        ([5.0, 5.01, 5.02, 5.03], "F x k", Verdict.NO_CONTROL),
        ([7.0, 7.01, 7.02, 7.03], "", Verdict.HURT),
        ([5.0, 7.0, 6.5, 5.5], "", Verdict.NOTHING),
        ([5.0, 5.5], "", Verdict.FEW_SPLITS),
        ([5.0], "", Verdict.FEW_SPLITS),
        ([5.0], "F+G_F", Verdict.UNANSWERED),
        ([5.0], "F", Verdict.UNANSWERED),
    ],
)
def test_verdict(mixed: list[float], without: str, expected: Verdict) -> None:
    (comparison,) = compare(measurements(mixed, without))
    assert verdict(comparison) is expected
    (sentence,) = answer([comparison])
    assert expected in sentence
    assert sentence.startswith("On mp_poly_total (poly_total; all training labels known)")


def test_three_splits_with_the_same_sign_are_not_enough_where_splits_overlap() -> None:
    (comparison,) = compare(measurements([5.9, 5.2, 5.6], overlap=0.25))
    assert comparison.difference("F+G_F", "F").interval[1] < 0
    assert verdict(comparison) is Verdict.NOTHING


def test_one_split_gives_no_interval() -> None:
    (sentence,) = answer(compare(measurements([6.25])))
    assert (
        "on the one split measured, adding synthetic crystals (F+G_F) changed the test MAE of CGCNN by +0.25"
        in sentence
    )
    assert "by +0.45 against the control (F x k" in sentence
    assert "95 %" not in sentence
    assert "Test MAE: trees 5, F 6, F x k 5.8, F+G_F 6.25." in sentence


def test_several_splits_give_interval_count_and_p_value() -> None:
    (sentence,) = answer(compare(measurements([7.0, 7.5, 6.5])))
    assert "by +1 (95 % interval +0.5 to +1.5; worse on 3 of 3 splits; p = " in sentence


def test_a_missing_control_is_said() -> None:
    (sentence,) = answer(compare(measurements([6.25], without="F x k")))
    assert "the control (F x k: real crystals repeated to the same size) was not evaluated" in sentence


def test_baselines_alone_answer_nothing() -> None:
    baselines = [found for found in measurements([6.25]) if reference_name(found.row)]
    assert answer(compare(baselines)) == ["No predictor was evaluated yet, only baselines."]


def test_levels_are_on_the_splits_of_the_difference() -> None:
    """While a study is under way, the arms without synthetic crystals have more splits than those with them."""
    found = measurements([5.0, 6.0, 9.0])
    under_way = [m for m in found if (m.row.arm, m.row.split) != ("F+G_F", "split-2")]
    (sentence,) = answer(compare(under_way))
    assert sentence.endswith("Test MAE on the 2 of 3 splits that all have: trees 5.5, F 6.5, F x k 6.3, F+G_F 6.")
    apart = [m for m in found if (m.row.arm == "F+G_F") == (m.row.split == "split-0")]
    (sentence,) = answer(compare(apart))
    assert sentence.endswith("No split has test errors of all of trees, F, F x k and F+G_F.")


def test_many_settings_name_what_chance_finds() -> None:
    def sentences(count: int) -> list[str]:
        axes = [(("ratio", str(number)),) for number in range(count)]
        return answer(compare([Measurement(m.row, a) for a in axes for m in measurements([7.0, 7.5, 6.5])]))

    assert "0.2 of them would, on average, still have p < 0.05" in sentences(4)[1]
    assert not any("on average," in sentence for sentence in sentences(3))


def test_several_settings_are_counted_first() -> None:
    found = [
        *(Measurement(m.row, (("ratio", "1"),)) for m in measurements([7.0, 7.5, 6.5])),
        *(Measurement(m.row, (("ratio", "2"),)) for m in measurements([6.25])),
    ]
    sentences = answer(compare(found))
    assert sentences[0] == f"Of 2 settings: {Verdict.HURT} (1); {Verdict.FEW_SPLITS} (1)."
    assert len(sentences) == 3


def test_predictors_of_real_crystals_share_a_sentence() -> None:
    found = measurements([5.0], without="F+G_F")
    others = [
        replace(measurement, row=replace(measurement.row, predictor="stack", test_mae=5.25))
        for measurement in found
        if measurement.row.arm == "F"
    ]
    first, *sentences = answer(compare([*found, *others]))
    assert first.startswith("Of 2 settings")
    assert len(sentences) == 1
    assert sentences[0].endswith("CGCNN 6, stack 5.25.")
