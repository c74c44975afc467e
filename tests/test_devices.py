import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.accelerators import MPSAccelerator
from torch_geometric.data import Batch

from matwheel.devices import find_device, trainer_accelerator, warn_of_slow_precision
from matwheel.models.predictor import PropertyPredictor
from matwheel.predictors.combination import Combination
from matwheel.predictors.graph_network import GraphNetwork
from matwheel.predictors.median import Constant
from tests.models.toys import toy_crystals


class Anywhere(PropertyPredictor):
    """Accepts batches on its own device only."""

    def forward(self, batch: Batch) -> torch.Tensor:
        assert batch.lattice.device == batch.atomic_numbers.device == self.device
        return torch.ones(batch.num_graphs)


def test_the_first_gpu_is_taken_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, expected in ((0, "cpu"), (2, "cuda:0")):
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        assert find_device() == find_device("auto") == torch.device(expected)
        assert find_device("cpu") == torch.device("cpu")
    assert find_device("cuda") == torch.device("cuda:0")
    assert find_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["cuda:2", "mps", "gpu", "cpu:x", ""])
def test_devices_that_are_not_there_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match=f"no device '{name}' to compute on: give auto or cuda:0 or cuda:1 or cpu"):
        find_device(name)


def test_batches_go_where_the_network_is_and_predictions_come_back() -> None:
    here = GraphNetwork(Anywhere(torch.nn.Linear(1, 1)), 4.0, 8)
    there = Combination((here, Constant(3.0)), np.array([0.5, 0.5])).to(torch.device("meta"))
    assert there(toy_crystals(3)).tolist() == [2.0] * 3
    moved = there.parts[0]
    assert isinstance(moved, GraphNetwork)
    assert (moved.model.device.type, here.model.device.type) == ("meta", "cpu")


def test_apple_silicon_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: False))
    assert [trainer_accelerator(name) for name in ("auto", "cpu", "gpu", "cuda")] == ["auto", "cpu", "gpu", "cuda"]
    assert not caplog.records
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    assert trainer_accelerator("cpu") == trainer_accelerator("auto") == "cpu"
    assert [record.getMessage()[:20] for record in caplog.records] == ["computing on the CPU"]
    for asked in ("mps", "gpu", MPSAccelerator()):
        with pytest.raises(ValueError, match="need double precision, which MPS"):
            trainer_accelerator(asked)


def test_bfloat16_on_a_processor_without_it_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for fast, precision in ((True, "bf16-mixed"), (False, "32-true"), (False, "bf16-mixed")):
        assert "instructions for bfloat16" not in caplog.text
        monkeypatch.setattr("matwheel.devices.has_bfloat16", lambda fast=fast: fast)
        warn_of_slow_precision(L.Trainer(accelerator="cpu", precision=precision, logger=False))
    assert "give --trainer.precision 32-true" in caplog.text
