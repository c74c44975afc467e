"""Embedding of conditions: grids come from the data, nothing is silently zero, missing or unknown."""

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matwheel.nn.condition import ConditionEmbedding
from matwheel.nn.heads import PropertyHead


@contextmanager
def said() -> Iterator[list[str]]:
    """What is logged in a block; unlike `caplog`, in one example of a test of many."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("matwheel.nn.condition")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def heavy_tailed(n: int = 500) -> torch.Tensor:
    normal = torch.randn(n, 1, generator=torch.Generator().manual_seed(0)).double()
    return torch.exp(2.3 + 0.7 * normal)


def fitted(kind: str = "log", values: torch.Tensor | None = None) -> ConditionEmbedding:
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"dielectric": kind})  # type: ignore[dict-item]
    embedding.fit(["dielectric"], heavy_tailed() if values is None else values)
    return embedding


def embed(embedding: ConditionEmbedding, *values: float) -> torch.Tensor:
    return embedding(embedding.encode(torch.tensor([list(values)])))[0]


def test_the_grid_spans_the_training_values() -> None:
    values = heavy_tailed()
    embedding = fitted()
    expansion = {}
    embedding.parts[0].net.register_forward_hook(lambda _, args, __: expansion.update(input=args[0]))
    embedding(embedding.encode(values.float()))
    used = expansion["input"].max(0).values > 0.5  # which points of the grid are met
    assert used[4:-4].all()
    assert not used[0]
    assert not used[-1]
    # Distinct values have distinct embeddings, in the tail too.
    assert not torch.allclose(embed(embedding, 40.0), embed(embedding, 50.0), atol=1e-4)


@pytest.mark.parametrize("kind", ["none", "standardise", "log", "log1p"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_encoded_scalars_have_unit_variance_whatever_the_scale_of_the_data(kind: str, scale: float) -> None:
    values = scale * heavy_tailed()
    scalars = fitted(kind, values).encode(values.float()).scalars
    assert scalars.mean() == pytest.approx(0, abs=0.02)
    assert scalars.std() == pytest.approx(1, abs=0.1)


@settings(deadline=None)
@given(st.floats(0.1, 1e6))
def test_values_off_the_grid_are_moved_to_its_end_with_a_warning(beyond: float) -> None:
    embedding = fitted()
    high = float(heavy_tailed().max()) * 3
    with said() as messages:
        far = embed(embedding, high + beyond)
    assert re.match(r"condition 'dielectric' = .* outside the range .* to ", "".join(messages))
    with said() as messages:
        farther = embed(embedding, 10 * (high + beyond))
        below = embed(embedding, -5.0)
    assert not messages  # said once
    torch.testing.assert_close(far, farther)
    assert not torch.allclose(far, below)
    expansion = {}
    embedding.parts[0].net.register_forward_hook(lambda _, args, __: expansion.update(input=args[0]))
    embed(embedding, 1e9)
    assert expansion["input"].max() == pytest.approx(1)  # a Gaussian is met in full, not missed by all


@pytest.mark.parametrize("kind", ["standardise", "log"])
def test_the_warning_names_the_training_values(kind: str) -> None:
    values, embedding = heavy_tailed(), fitted(kind)
    lowest, highest = float(values.min()), float(values.max())
    with said() as messages:
        embedding.encode(values[[int(values.argmin()), int(values.argmax())]].float())
    assert not messages
    with said() as messages:
        embedding.encode(torch.tensor([[1.05 * highest]]))
    found = re.search(r"range (\S+) to (\S+) that", "".join(messages))
    assert found is not None
    assert float(found[1]) == pytest.approx(lowest, rel=0.02, abs=0.001 * highest)
    assert float(found[2]) == pytest.approx(highest, rel=1e-3)


def test_crystals_may_lie_off_the_grid_and_single_extremes_do_not() -> None:
    embedding = ConditionEmbedding({"gap": "standardise"})
    values = torch.cat([torch.linspace(1, 11, 700), torch.tensor([100.0])])[:, None]
    embedding.fit(["gap"], values)
    with said() as messages:
        scalars = embedding.encode(values).scalars
        embedding.encode(torch.tensor([[1e4]]), requested=False)
    assert not messages
    torch.testing.assert_close(float(scalars.max()), float((100 - values.mean()) / values.std(correction=0)))
    with said() as messages:
        embedding.encode(torch.tensor([[1e4]]))
    assert "lies outside" in "".join(messages)


@pytest.mark.parametrize("missing", [math.nan, math.inf])
def test_a_missing_condition_is_an_error(missing: float) -> None:
    with pytest.raises(ValueError, match=r"'dielectric' is missing"):
        embed(fitted(), missing)
    with pytest.raises(ValueError, match=r"'dielectric' is missing"):
        fitted(values=torch.tensor([[1.0], [missing]]))
    with pytest.raises(ValueError, match="a column for each of the conditions"):
        fitted().encode(torch.zeros(3, 0))


def several() -> ConditionEmbedding:
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"gap": "standardise", "system": "class", "energy": "log"})
    values = torch.tensor([[0.5, 3, 10], [1.5, 7, 20], [2.5, 225, 5], [0.0, 7, 80]])
    embedding.fit(["gap", "system", "energy"], values)
    return embedding


def test_several_conditions_at_once() -> None:
    embedding = several()
    assert (embedding.num_scalars, embedding.num_class_conditions) == (2, 1)
    encoded = embedding.encode(torch.tensor([[1.0, 225, 10], [1.0, 3, 10]]))
    assert encoded.scalars.shape == (2, 2)
    assert encoded.classes.tolist() == [[2], [0]]
    base = embed(embedding, 1.0, 7, 10)
    assert base.shape == (128,)
    for other in ((1.2, 7, 10), (1.0, 3, 10), (1.0, 7, 12)):
        assert not torch.allclose(base, embed(embedding, *other), atol=1e-5)


def test_what_is_not_given_has_a_learned_vector() -> None:
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"gap": "standardise", "system": "class"}, dropout=0.5)
    embedding.fit(["gap", "system"], torch.tensor([[0.5, 3], [1.5, 7], [math.nan, 7], [2.5, math.nan]]))
    embedding.eval()
    none = embed(embedding, math.nan, math.nan)
    some = embed(embedding, math.nan, 7)
    assert not torch.allclose(none, some)
    assert not torch.allclose(some, embed(embedding, 1.5, 7))
    none.sum().backward()
    for part in embedding.parts:
        assert part.absent.grad.abs().sum() > 0
    for parameter in embedding.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    with pytest.raises(ValueError, match="'gap' is missing"):
        embed(embedding, math.inf, 7)


def test_dropout_hides_all_conditions_of_a_crystal_in_training_only() -> None:
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"gap": "standardise", "system": "class"}, dropout=0.3)
    embedding.fit(["gap", "system"], torch.tensor([[0.5, 3], [1.5, 7], [2.5, 7]]))
    encoded = embedding.encode(torch.tensor([[1.0, 7]]).repeat(4000, 1))
    embedding.eval()
    given, none = embedding(encoded)[0], embed(embedding, math.nan, math.nan)
    assert (embedding(embedding.hide(encoded)) == given).all()
    embedding.train()
    seen = embedding(embedding.hide(encoded))
    hidden, shown = torch.isclose(seen, none).all(1), torch.isclose(seen, given).all(1)
    assert hidden.float().mean() == pytest.approx(0.3, abs=0.03)
    assert shown.float().mean() == pytest.approx(0.7, abs=0.03)  # never one condition without the other
    with pytest.raises(ValueError, match=r"in \[0, 1\), not 1"):
        ConditionEmbedding(dropout=1.0)


def test_a_condition_nobody_knows_is_left_unfitted() -> None:
    embedding = ConditionEmbedding(dropout=0.1)
    embedding.fit(["dielectric"], torch.full((5, 1), math.nan))
    assert embedding.names == ["dielectric"]
    assert torch.isfinite(embed(embedding.eval(), math.nan)).all()


@pytest.mark.parametrize("value", [5.0, 226.0, 2.0])
def test_an_unknown_class_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match=r"'system' has no class .*classes found in training: 3, 7, 225"):
        embed(several(), 1.0, value, 10)
    conditions = torch.tensor([[1.0, value, 10], [1.0, 3.0, 10]])
    encoded = several().encode(conditions, requested=False)
    assert encoded.classes.flatten().tolist() == [-1, 0]


def test_too_many_classes_are_an_error() -> None:
    embedding = ConditionEmbedding({"group": "class"}, max_classes=2)
    with pytest.raises(ValueError, match="raise max_classes"):
        embedding.fit(["group"], torch.tensor([[1.0], [2.0], [3.0]]))


def test_names_must_be_those_of_the_data() -> None:
    with pytest.raises(ValueError, match="name the same ones in the same order"):
        ConditionEmbedding({"gap": "log"}).fit(["energy"], torch.ones(3, 1))
    option = "--trainer.callbacks.generator.condition_embedding.kinds '{gap: log, energy: log}'"
    with pytest.raises(ValueError, match=re.escape(option)):
        ConditionEmbedding().fit(["gap", "energy"], torch.ones(3, 2))
    with pytest.raises(ValueError, match="at least one condition"):
        ConditionEmbedding({})


def test_checkpoints_hold_names_grids_and_classes(tmp_path) -> None:
    trained = several()
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    fresh = trained.unfitted_copy()
    assert not torch.allclose(embed(trained, 1.0, 7, 10), fresh(trained.encode(torch.tensor([[1.0, 7, 10]])))[0])
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert fresh.names == ["gap", "system", "energy"]
    assert torch.equal(embed(trained, 1.0, 7, 10), embed(fresh, 1.0, 7, 10))


def test_by_default_the_name_comes_from_the_data() -> None:
    embedding = ConditionEmbedding()
    embedding.fit(["bulk_modulus"], heavy_tailed())
    assert embedding.names == ["bulk_modulus"]


def test_property_head_counts_only_what_is_given() -> None:
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"gap": "log", "system": "class"}, dropout=0.1)
    values = torch.cat([heavy_tailed(), torch.arange(500)[:, None] % 3], 1)
    embedding.fit(["gap", "system"], values)
    head = PropertyHead(8, 1, 1, embedding.max_classes, hidden_dim=16)
    latent = torch.randn(3, 8)
    some = torch.tensor([[math.nan, math.nan], [10.0, math.nan], [math.nan, 1.0]])
    loss = head.loss(latent, embedding.encode(some))
    loss.sum().backward()
    assert loss[0] == 0
    assert (loss[1:] > 0).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())
    # A head that says the mean has the error 1 per scalar, however heavy the tail.
    torch.nn.init.zeros_(head.scalars[0][-1].weight)
    torch.nn.init.zeros_(head.scalars[0][-1].bias)
    scalars = values[:, :1].float()
    encoded = embedding.encode(torch.cat([scalars, torch.full_like(scalars, math.nan)], 1))
    assert head.loss(torch.randn(500, 8), encoded).mean().item() == pytest.approx(1, abs=0.1)


def test_property_head_learns_scalars_and_classes() -> None:
    torch.manual_seed(0)
    embedding = several()
    head = PropertyHead(8, 2, 1, embedding.max_classes, hidden_dim=16)
    latent = torch.randn(4, 8)
    conditions = embedding.encode(torch.tensor([[0.5, 3, 10], [1.5, 7, 20], [2.5, 225, 5], [0.0, 7, 80]]))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    first = head.loss(latent, conditions)
    assert first.shape == (4,)
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(latent, conditions).mean().backward()
        optimizer.step()
    assert head.loss(latent, conditions).max() < 0.05 * first.mean()
    # The loss is lowest for the right latent, for every request.
    head.eval()
    for row in range(4):
        repeated = type(conditions)(*(part[row : row + 1].expand(4, -1) for part in conditions))
        assert head.loss(latent, repeated).argmin() == row
