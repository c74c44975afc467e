from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from matwheel.checkpoint_file import read_checkpoint
from matwheel.weights_file import write_weights

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    tensor = (10 * values).to(draw(st.sampled_from(DTYPES)))
    return tensor.T if tensor.ndim == 2 and draw(st.booleans()) else tensor


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text("abc.", min_size=1), tensors(), max_size=4),
    st.lists(st.text(), max_size=3),
    st.none() | st.text(),
)
def test_weights_come_back_bit_for_bit(
    tmp_path: Path, state: dict[str, Tensor], names: list[str], target: str | None
) -> None:
    shared = {f"{name}/again": value for name, value in state.items()}
    content = {"state_dict": {**state, **shared, "x._extra_state": names}, "target": target, "epoch": 3}
    write_weights(tmp_path / "model.safetensors", content)
    read = read_checkpoint(tmp_path / "model.safetensors")
    assert read.get("target") == target
    assert set(read) <= {"state_dict", "target"}
    assert read["state_dict"].pop("x._extra_state") == names
    assert set(read["state_dict"]) == set(state) | set(shared)
    for name, value in {**state, **shared}.items():
        assert read["state_dict"][name].dtype == value.dtype
        assert torch.equal(read["state_dict"][name], value)


@given(st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_weights_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path, {"state_dict": {"a": torch.ones(3)}})
    content = path.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    path.write_bytes(data.draw(st.just(cut) | st.binary(max_size=100)))
    with pytest.raises(ValueError, match="does not hold the weights of a model of this program, or is damaged"):
        read_checkpoint(path)
    with pytest.raises(ValueError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.safetensors")
