import pytest
import torch

from matwheel.data.conditions import ConditionDataModule


def test_requests_come_in_chunks_with_their_own_seeds():
    chunks = list(ConditionDataModule([[1.0], [2.0]], num_samples=5, seed=100, chunk_size=2).predict_dataloader())
    assert [c.index.tolist() for c in chunks] == [[0, 1], [2, 3], [4]]
    assert torch.cat([c.seed for c in chunks]).tolist() == [100, 101, 102, 103, 104]
    assert torch.cat([c.conditions for c in chunks]).squeeze(1).tolist() == [1, 2, 1, 2, 1]


def test_a_resumed_run_keeps_seeds_and_conditions_of_the_rest():
    whole = ConditionDataModule([[1.0], [2.0], [3.0]], num_samples=9, seed=7).requests
    rest = whole.take([2, 3, 5, 6, 7, 8])
    assert rest.index.tolist() == [2, 3, 5, 6, 7, 8]
    assert rest.seed.tolist() == [9, 10, 12, 13, 14, 15]
    assert rest.conditions.flatten().tolist() == [3, 1, 3, 1, 2, 3]


def test_chunks_depend_on_the_index_alone():
    rest = ConditionDataModule([[1.0]], num_samples=9, chunk_size=3)
    rest.requests = rest.requests.take([3, 5, 6, 7, 8])
    assert [chunk.index.tolist() for chunk in rest.predict_dataloader()] == [[3, 5], [6, 7, 8]]
    rest.requests = rest.requests.take([])
    assert len(rest.predict_dataloader()) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "one value per condition"), ([[float("inf")]], "is infinite"), ([1.0], "one value per condition")],
)
def test_bad_conditions(values, message):
    with pytest.raises(ValueError, match=message):
        ConditionDataModule(values)
