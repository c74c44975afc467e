import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from matwheel.flywheel.results import write_results
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.run_config import RunConfig
from matwheel.models.trained import TrainedModel
from matwheel.nn.condition import ConditionEmbedding
from matwheel.report.model_card import card_of_model
from matwheel.shipped_configs import configs_folder
from tests.report.written_runs import full_rows

WHEEL = configs_folder() / "flywheel" / "full.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A flywheel of which one stage has been done."""
    stage = tmp_path / "stages" / "predictor-F"
    stage.mkdir(parents=True)
    (tmp_path / "version_0").mkdir()
    shutil.copy(WHEEL, tmp_path / "version_0" / "config.yaml")
    (tmp_path / "version_0" / "split.json").write_text(
        json.dumps({"train": ["a", "b"], "test": ["c"], "labelled": ["a"]})
    )
    metrics = {"val_mae": 4.91758, "test_mae": 6.44838, "epochs": 40.0, "fit_seconds": 22.0}
    (stage / "stage.json").write_text(json.dumps({"name": "predictor-F", "record": {"metrics": metrics}}))
    return tmp_path


def trained(run: Path, kind: type[Any], content: dict[str, Any]) -> TrainedModel[Any]:
    config = RunConfig.read(run / "version_0" / "config.yaml", generates=kind is LatentPrior)
    return TrainedModel(run / "stages" / "predictor-F" / "best.ckpt", content, config, config.build_model(kind))


def generator(run: Path, conditions: list[str]) -> TrainedModel[Any]:
    found = trained(run, LatentPrior, {})
    found.model.vae.condition_embedding = ConditionEmbedding(dict.fromkeys(conditions, "log"))
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, : len(conditions)]
    found.model.vae.condition_embedding.fit(conditions, values)
    return found


def change_data(run: Path, **options: Any) -> None:
    config = run / "version_0" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["data"]["init_args"] |= options
    config.write_text(yaml.safe_dump(content))


def test_a_predictor_of_a_flywheel(run: Path) -> None:
    card = card_of_model(trained(run, PropertyPredictor, {"target": "poly_total"}), Path("folder/mine"))
    lines = card.splitlines()
    for line in (
        "- target: poly_total (dimensionless)",
        "- kind: CGCNN (PropertyPredictor), a property predictor",
        "- trained on: not recorded",
        "- rows of the split: train 2 (of which labelled 1), test 1",
        "- split: RandomSplit, seed 0",
        "- test_mae: 6.448",
        "python -m matwheel.predict mine new_crystals.extxyz --out predictions.csv",
    ):
        assert line in lines
    assert "Petousis" in card
    assert "epochs" not in card


def test_an_arm_names_the_crystals_it_was_trained_on(run: Path) -> None:
    write_results(run / "results.csv", full_rows(seed=3))
    (run / "stages" / "predictor-F").rename(run / "stages" / "predictor-G_F")
    expected = "- trained on: 0 real crystals (repeats counted) and 5 synthetic ones: arm `G_F`, round 1, seed 3"
    path = run / "stages" / "predictor-G_F" / "best.ckpt"
    card = card_of_model(replace(trained(run, PropertyPredictor, {}), path=path), Path("mine"))
    assert expected in card.splitlines()
    assert "like those it was trained on" not in card


def test_figures_say_of_which_rows_they_are(run: Path) -> None:
    card = card_of_model(trained(run, PropertyPredictor, {}), Path("mine"))
    assert "`val` are of the validation rows, which serve choices" in card
    assert "`test` hold for crystals drawn like the test crystals" in card
    (run / "stages" / "predictor-F" / "stage.json").unlink()
    (run / "version_0" / "metrics.csv").write_text("epoch,val/mae,train/loss\n3,1.5,0.1\n")
    card = card_of_model(trained(run, PropertyPredictor, {"epoch": 3}), Path("mine"))
    assert "- val/mae: 1.5" in card
    assert "test crystals" not in card


def test_the_loss_of_a_generator_has_no_unit(run: Path) -> None:
    metrics = {"val/loss": 0.2, "val/angles_mae": 4.0}
    stage = run / "stages" / "predictor-F" / "stage.json"
    stage.write_text(json.dumps({"name": "prior", "record": {"metrics": metrics}}))
    card = card_of_model(generator(run, ["gap"]), Path("mine"))
    assert "- val/loss: 0.2" in card
    assert "The loss has no unit." in card
    assert "angles_mae" not in card
    assert "in the unit above" not in card


def test_a_split_from_a_file_is_named_by_the_file(run: Path) -> None:
    change_data(run, split={"class_path": "FileSplit", "init_args": {"path": "/home/me/splits.json", "index": 2}})
    card = card_of_model(trained(run, PropertyPredictor, {}), Path("mine"))
    assert "- split: FileSplit, splits.json, index 2" in card.splitlines()


def test_commands_take_any_name_of_a_folder(run: Path) -> None:
    card = card_of_model(trained(run, PropertyPredictor, {}), Path("my model's"))
    predict, python = (shlex.split(line) for line in card.splitlines() if line.startswith("python -"))
    assert predict[3] == "my model's"
    assert python[2] == 'from matwheel import api; print(api.predict("my model\'s", "new_crystals.extxyz"))'


def test_data_and_split_of_ones_own_without_figures(run: Path) -> None:
    split = {"class_path": "matwheel.data.splits.RandomSplit", "init_args": {"seed": 7}}
    change_data(run, dataset="/home/me/mine.csv", target="gap", split=split)
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
    card = card_of_model(generator(run, ["gap", "density"]), Path("mine"))
    assert "# Put the gap and density that you want in place of 10" in card
    assert "python -m matwheel.sample mine --values '[10, 10]' --n 8" in card
    assert "values=[[10, 10]], n=8" in card
