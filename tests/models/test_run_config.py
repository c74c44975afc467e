from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.run_config import RunConfig, find_config

WHEEL = Path(__file__).parents[2] / "configs" / "flywheel" / "full.yaml"


def test_a_flywheel_has_a_predictor_and_a_generator() -> None:
    predictor = RunConfig.read(WHEEL)
    assert isinstance(predictor.build_model(PropertyPredictor), PropertyPredictor)
    generator = RunConfig.read(WHEEL, generates=True).build_model(LatentPrior)
    assert generator.oversample == 8
    assert generator.vae.latent_dim == 256
    assert predictor.data_options()["cutoff"] == 8.0


def test_a_flywheel_may_be_the_only_callback(tmp_path: Path) -> None:
    content = yaml.safe_load(WHEEL.read_text())
    content["trainer"]["callbacks"] = content["trainer"]["callbacks"][-1]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert RunConfig.read(tmp_path / "config.yaml", generates=True) == replace(
        RunConfig.read(WHEEL, generates=True), path=tmp_path / "config.yaml"
    )


def test_the_config_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    for version in ("version_2", "version_10", "version_x"):
        (tmp_path / version / "checkpoints").mkdir(parents=True)
        (tmp_path / version / "config.yaml").touch()
    stage = tmp_path / "stages" / "predictor-F"
    stage.mkdir(parents=True)
    assert find_config(stage / "best.ckpt") == tmp_path / "version_10" / "config.yaml"
    assert find_config(tmp_path / "version_2" / "checkpoints" / "a.ckpt").parent.name == "version_2"
    (stage / "config.yaml").touch()
    assert find_config(stage / "best.ckpt").parent == stage
    with pytest.raises(ValueError, match=r"no config\.yaml beside"):
        find_config(tmp_path / "none" / "none" / "x.ckpt")


@pytest.mark.parametrize("content", ["[", "3", "{model: 1}", "\0"])
def test_what_is_no_config_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        RunConfig.read(tmp_path / "config.yaml")


def test_a_config_of_another_kind_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(WHEEL.read_text())
    content["model"] = content["trainer"]["callbacks"][-1]["init_args"]["generator"]
    content["data"] = "mp_poly_total"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    described = RunConfig.read(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="is not the config of a PropertyPredictor"):
        described.build_model(PropertyPredictor)
    with pytest.raises(ValueError, match="is not the config of a CrystalDataModule"):
        described.data_options()
