import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.run_config import RunConfig
from matwheel.models.trained import TrainedModel
from matwheel.nn.condition import ConditionEmbedding
from matwheel.report.model_card import card_of_model
from matwheel.shipped_configs import configs_folder

WHEEL = configs_folder() / "flywheel" / "full.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A flywheel of which one stage has been done."""
    stage = tmp_path / "stages" / "predictor-F"
    stage.mkdir(parents=True)
    (tmp_path / "version_0").mkdir()
    shutil.copy(WHEEL, tmp_path / "version_0" / "config.yaml")
    (tmp_path / "version_0" / "split.json").write_text(json.dumps({"train": ["a", "b"], "test": ["c"]}))
    metrics = {"val_mae": 4.91758, "test_mae": 6.44838, "epochs": 40.0, "fit_seconds": 22.0}
    (stage / "stage.json").write_text(json.dumps({"name": "predictor-F", "record": {"metrics": metrics}}))
    return tmp_path


def trained(run: Path, kind: type[Any], content: dict[str, Any]) -> TrainedModel[Any]:
    config = RunConfig.read(run / "version_0" / "config.yaml", generates=kind is LatentPrior)
    return TrainedModel(run / "stages" / "predictor-F" / "best.ckpt", content, config, config.build_model(kind))


def test_a_predictor_of_a_flywheel(run: Path) -> None:
    card = card_of_model(trained(run, PropertyPredictor, {"target": "poly_total"}), Path("folder/mine"))
    for line in (
        "- target: poly_total (dimensionless)",
        "- rows: train 2, test 1",
        "- split: RandomSplit, seed 0",
        "Recorded by stage `predictor-F` of a flywheel; errors are in the unit above.",
        "- test_mae: 6.448",
        "python -m matwheel.predict mine new_crystals.extxyz --out predictions.csv",
    ):
        assert line in card.splitlines()
    assert "Petousis" in card
    assert "epochs" not in card


def test_data_and_split_of_ones_own_without_figures(run: Path) -> None:
    config = run / "version_0" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    split = {"class_path": "matwheel.data.splits.RandomSplit", "init_args": {"seed": 7}}
    content["data"]["init_args"] |= {"dataset": "/home/me/mine.csv", "target": "gap", "split": split}
    config.write_text(yaml.safe_dump(content))
    for path in (run / "version_0" / "split.json", run / "stages" / "predictor-F" / "stage.json"):
        path.unlink()
    card = card_of_model(trained(run, PropertyPredictor, {}), Path("mine"))
    for phrase in (
        "gap (unit of the data set)",
        "data set: mine.csv",
        "seed 7",
        "No figures were found",
        "not recorded",
    ):
        assert phrase in card
    assert "/home/me" not in card


def test_commands_of_a_generator_give_a_value_for_each_condition(run: Path) -> None:
    generator = trained(run, LatentPrior, {})
    generator.model.vae.condition_embedding = ConditionEmbedding({"gap": "log", "density": "log"})
    generator.model.vae.condition_embedding.fit(["gap", "density"], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    card = card_of_model(generator, Path("mine"))
    assert "# Put the gap and density that you want in place of 10" in card
    assert "python -m matwheel.sample mine --values '[10, 10]' --n 8" in card
    assert "values=[[10, 10]], n=8" in card
