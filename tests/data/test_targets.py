import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matwheel.data.targets import TargetTransform, TransformKind

values = st.lists(st.floats(-1e3, 1e4), min_size=3, max_size=30).filter(lambda v: max(v) - min(v) > 1e-3)


@given(values, st.sampled_from(["none", "standardise", "log"]))
def test_inverse_undoes_forward(numbers, kind):
    y = torch.tensor(numbers, dtype=torch.float64)
    transform = TargetTransform(kind)
    transform.fit(y)
    torch.testing.assert_close(transform.inverse(transform(y)), y, rtol=1e-6, atol=1e-6)


@given(values, st.sampled_from(["standardise", "log"]))
def test_training_values_are_standardised(numbers, kind):
    y = torch.tensor(numbers, dtype=torch.float64)
    transform = TargetTransform(kind)
    transform.fit(y)
    t = transform(y)
    assert abs(float(t.mean())) < 1e-6
    assert float(t.std(correction=0)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1e-3, 1e9])
@pytest.mark.parametrize("numbers", [[0.03, 20.0, 80.0, 110.0, 1600.0], [0.2, 0.5, 0.8], [-3.0, 0.0, 2.0]])
@pytest.mark.parametrize("kind", ["log", "standardise"])
def test_the_scale_does_not_depend_on_the_unit(kind: TransformKind, numbers: list[float], unit: float) -> None:
    y = torch.tensor(numbers, dtype=torch.float64)
    far = torch.tensor([-1e9, 1e9], dtype=torch.float64)
    one, other = TargetTransform(kind), TargetTransform(kind)
    one.fit(y)
    other.fit(unit * y)
    torch.testing.assert_close(one(y), other(unit * y))
    torch.testing.assert_close(one(far), other(unit * far))
    torch.testing.assert_close(other.inverse(other(unit * y)), unit * y, rtol=1e-6, atol=1e-6 * unit)


def test_where_most_values_are_the_smallest_the_others_set_the_scale() -> None:
    y = torch.tensor([0.0] * 6 + [0.5, 1.0, 2.0, 5.0])
    transform = TargetTransform("log")
    transform.fit(y)
    assert float(transform.shift) == pytest.approx(0.1)
    assert float(transform(y)[6:].max() - transform(y)[6:].min()) > 1  # not squeezed by a gap below them


@pytest.mark.parametrize("value", [0.0, -2.0, 3.0, 1e-9])
@pytest.mark.parametrize("kind", ["log", "standardise"])
def test_equal_values_are_predicted_as_they_are(kind: TransformKind, value: float) -> None:
    y = torch.full((4,), value, dtype=torch.float64)
    transform = TargetTransform(kind)
    transform.fit(y)
    torch.testing.assert_close(transform.inverse(torch.zeros(4, dtype=torch.float64)), y, rtol=1e-6, atol=1e-12)
    assert transform(y).abs().max() < 1


def test_negative_values_are_hardly_bent() -> None:
    values = torch.distributions.Normal(-2.0, 1.0).icdf(torch.linspace(0.001, 0.999, 500).double())
    transform = TargetTransform("log")
    transform.fit(values)
    scaled = transform(values)
    assert scaled.min() > -4.5
    assert scaled.max() < 3.1


def test_positive_values_far_from_zero_are_not_shifted():
    transform = TargetTransform("log")
    transform.fit(torch.tensor([2.0, 10.0, 15.0, 270.0]))
    assert float(transform.shift) == 0.0


def test_missing_values_are_ignored_and_none_at_all_is_an_error():
    transform = TargetTransform("standardise")
    transform.fit(torch.tensor([1.0, float("nan"), 3.0]))
    assert float(transform.mean) == 2.0
    with pytest.raises(ValueError, match="no finite target value"):
        transform.fit(torch.tensor([float("nan")]))


def test_log1p_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match="use the transform 'log'"):
        TargetTransform("log1p").fit(torch.tensor([-2.0, 3.0]))


def test_unknown_kind():
    with pytest.raises(ValueError, match="choose none, standardise"):
        TargetTransform("sqrt")  # type: ignore[arg-type]


def test_state_travels_in_the_checkpoint():
    transform, copy = TargetTransform("log"), TargetTransform("log")
    transform.fit(torch.tensor([-1.0, 3.0, 50.0]))
    copy.load_state_dict(transform.state_dict())
    y = torch.tensor([0.5, 7.0])
    assert torch.equal(transform(y), copy(y))


@pytest.mark.parametrize("kind", ["log", "log1p"])
def test_predictions_of_a_logarithm_end_beyond_the_training_values(kind: TransformKind) -> None:
    y = torch.tensor([1.0, 10.0, 100.0])
    transform = TargetTransform(kind)
    transform.fit(y)
    low, high = transform(y).min() - 1, transform(y).max() + 1
    said = torch.tensor([float(high) - 0.01, float(high), float(high) + 0.1, 1e4])
    predicted = transform.prediction(said)
    torch.testing.assert_close(predicted[:2], transform.inverse(said[:2]))
    torch.testing.assert_close(predicted[2:], transform.inverse(high).expand(2))
    assert 100 < predicted[0] < predicted[1] < 1000
    assert predicted.square().sum().isfinite()
    torch.testing.assert_close(transform.prediction(torch.tensor(-1e4)), transform.inverse(low).clamp(min=0))


@given(
    labels=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=8),
    said=st.floats(-1e4, 1e4, width=32),
    kind=st.sampled_from(["log", "log1p"]),
)
def test_a_target_that_is_never_negative_is_not_predicted_negative(
    labels: list[float], said: float, kind: TransformKind
) -> None:
    y = torch.tensor(labels).abs()
    transform = TargetTransform(kind)
    transform.fit(y)
    assert transform.prediction(torch.tensor(said)) >= 0
    transform = TargetTransform()
    transform.fit(-1 - y)
    assert transform.prediction(torch.tensor(-1e4)) < 0  # where some are negative, it may be


def test_predictions_on_a_linear_scale_are_not_bounded() -> None:
    transform = TargetTransform("standardise")
    transform.fit(torch.tensor([1.0, 2.0]))
    assert float(transform.prediction(torch.tensor(1e6))) == float(transform.inverse(torch.tensor(1e6)))
