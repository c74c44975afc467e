"""A generator's encoder as a predictor network."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from matwheel.nn.encoder_network import EncoderNetwork
from tests.models.toys import ToyData, ToyEncoder, toy_vae


@pytest.mark.parametrize("prefix", ["", "vae."])
def test_weights_of_a_generator_are_taken(prefix: str, tmp_path: Path) -> None:
    vae = toy_vae()
    with torch.no_grad():
        vae.encoder.embedding.weight.mul_(3)
    state = {f"{prefix}{name}": value for name, value in vae.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "generator.ckpt")
    network = EncoderNetwork(ToyEncoder(), hidden_dim=8, start=tmp_path / "generator.ckpt")
    batch = ToyData().batch([0, 1, 5])
    assert torch.equal(network.encoder(batch), vae.encoder(batch))
    value = network(batch)
    assert value.shape == (3,)
    value.sum().backward()
    assert network.encoder.embedding.weight.grad.abs().sum() > 0  # it goes on learning


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"network.weight": torch.zeros(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt does not hold the weights of this encoder"):
        EncoderNetwork(ToyEncoder(), start=tmp_path / "other.ckpt")


def test_the_shipped_predictor_has_the_encoder_of_the_shipped_generators() -> None:
    """Its config says that it can start from their checkpoints."""
    own = _config("predictor/painn")["model"]["init_args"]["network"]["init_args"]["encoder"]
    wheel = _config("flywheel/full")["trainer"]["callbacks"][-1]
    generators = [_config("generator/con_cdvae")["model"], wheel["init_args"]["generator"]]
    for generator in generators:
        assert generator["init_args"]["encoder"] == own


def _config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((Path("configs") / f"{name}.yaml").read_text(encoding="utf-8"))
    return content
