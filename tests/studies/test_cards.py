import pytest
import torch

from matwheel.studies.cards import divided, visible_cards


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [
        (None, 2, ["0", "1"]),
        (None, 0, []),
        ("3,GPU-8f2", 2, ["3", "GPU-8f2"]),
        ("", 0, []),
        ("-1", 0, []),
        ("1,-1,0", 1, ["1"]),  # what comes after a name that is none is hidden
    ],
)
def test_the_names_of_gpus(
    variable: str | None, count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert visible_cards() == expected


@pytest.mark.parametrize(
    ("count", "jobs", "each", "expected"),
    [
        (4, 1, None, ["abcd"]),
        (4, 2, None, ["ab", "cd"]),
        (5, 2, None, ["ab", "cd"]),  # a result does not depend on which of them made it
        (2, 3, None, ["a", "b", "a"]),
        (1, 2, None, ["a", "a"]),
        (0, 2, None, ["", ""]),
        (4, 2, 1, ["a", "b"]),
        (4, 2, 0, ["", ""]),
        (0, 2, 0, ["", ""]),
    ],
)
def test_gpus_are_divided(count: int, jobs: int, each: int | None, expected: list[str]) -> None:
    assert ["".join(cards) for cards in divided(list("abcde"[:count]), jobs, each)] == expected


def test_too_few_gpus() -> None:
    with pytest.raises(ValueError, match="2 jobs with 1 GPUs each need 2, but 1 are visible"):
        divided(["0"], 2, 1)
