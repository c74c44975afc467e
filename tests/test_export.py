"""Models as folders, and what cannot be exported."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from torch import Tensor

from matwheel import api
from matwheel.data.catalogue import load
from matwheel.data.conditions import ConditionDataModule
from matwheel.data.crystal import CrystalTable
from matwheel.export import export
from matwheel.export import main as export_command
from matwheel.models.latent_prior import LatentPrior
from matwheel.models.run_config import find_config
from matwheel.models.saved_generator import SavedGenerator
from matwheel.models.trained import model_file
from matwheel.predict import main as predict_command
from matwheel.predictors.saved import SavedPredictor
from matwheel.sample import main as sample_command
from tests.trained import train_generator, train_predictor


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_generator(tmp_path_factory.mktemp("generator"))


def test_an_exported_generator_makes_the_same_crystals(prior: Path, tmp_path: Path) -> None:
    export(prior, tmp_path / "generator")
    before = SavedGenerator.load(prior).sample([[5.0], [20.0]], 3, seed=1)
    after = SavedGenerator.load(tmp_path / "generator").sample([[5.0], [20.0]], 3, seed=1)
    for name, value in vars(before).items():
        assert name == "properties" or np.array_equal(getattr(after, name), value), name
    assert before.properties["poly_total"].tolist() == [5.0, 20.0, 5.0]
    card = (tmp_path / "generator" / "README.md").read_text()
    assert "- conditions: poly_total" in card
    assert 'api.sample("generator"' in card


def test_an_exported_potential_does_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')
    checkpoint = train_predictor(tmp_path, config="chgnet.yaml", network=())
    export(checkpoint, tmp_path / "potential")
    crystals = load("mp_poly_total").table.take([0, 5])
    expected = SavedPredictor.load(checkpoint).predict(crystals)
    monkeypatch.setattr("matwheel.nn.chgnet_weights.find_spec", lambda name: None)
    assert np.array_equal(SavedPredictor.load(model_file(tmp_path / "potential")).predict(crystals), expected)


def test_the_command_writes_what_it_makes(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(prior, tmp_path / "generator")
    options = ["--values", "5", "20", "--n", "3", "--seed", "1", "--device", "cpu", "--out", str(tmp_path / "made")]
    sample_command([str(tmp_path / "generator"), *options])
    table = pd.read_parquet(tmp_path / "made" / "samples.parquet")
    assert table["seed"].tolist() == [1, 2, 3]
    assert table["condition_poly_total"].tolist() == [5.0, 20.0, 5.0]
    made = CrystalTable.load(tmp_path / "made" / "samples.npz")
    expected = SavedGenerator.load(prior).sample([5.0, 20.0], 3, seed=1)
    assert np.array_equal(made.frac_coords, expected.frac_coords)
    structures = api.sample(prior, [5.0, 20.0], 3, seed=1, device="cpu")
    assert [structure.properties.pop("id") for structure in structures] == expected.ids.tolist()
    for structure in structures:
        structure.properties.clear()  # which count when structures are compared
    assert structures == [crystal.to_structure() for crystal in expected]


def test_sampling_goes_on_where_it_was_interrupted(
    prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[int]] = []
    sample = LatentPrior.sample

    def noting(self: LatentPrior, conditions: Tensor, seeds: Tensor, index: Tensor, *rest: Any) -> CrystalTable:
        if len(made) == 1:
            made.append([])
            raise KeyboardInterrupt
        made.append(index.tolist())
        return sample(self, conditions, seeds, index, *rest)

    def call(values: str = "5", out: str = "made") -> None:
        options = ["--values", values, "20", "--n", "5", "--device", "cpu", "--out", str(tmp_path / out)]
        sample_command([str(prior), *options])

    def refused() -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(SystemExit):
            call("6")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return capsys.readouterr().err

    monkeypatch.setattr(LatentPrior, "sample", noting)
    monkeypatch.setattr(ConditionDataModule.__init__, "__defaults__", (64, 0, 2))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        call()
    call()
    assert made == [[0, 1], [], [2, 3], [4]]
    call(out="at once")
    for name in ("samples.parquet", "samples.extxyz"):
        assert (tmp_path / "made" / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    assert "made holds other samples (number 0 with the seed 0 and {'poly_total': 5.0})" in refused()
    monkeypatch.setattr(LatentPrior, "weights_hash", lambda self: "another")
    assert "made holds other samples (of another generator): choose another folder or delete it" in refused()
    monkeypatch.undo()
    for part in (tmp_path / "made" / "parts").iterdir():
        part.write_bytes(b"")
    assert "0000000-0000001.npz is damaged" in refused()
    for part in (tmp_path / "made" / "parts").iterdir():
        part.unlink()
    call()
    made_again, at_once = (tmp_path / folder / "samples.parquet" for folder in ("made", "at once"))
    assert made_again.read_bytes() == at_once.read_bytes()
    shutil.rmtree(tmp_path / "made" / "parts")
    assert "made holds crystals of something else: give another --out" in refused()


def test_a_request_that_cannot_be_leaves_no_folder(
    prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sample_command([str(prior), "--values", "5", "--n", "0", "--out", str(tmp_path / "made")])
    assert "n is how many crystals to make: give a whole number from 1 on, not 0" in capsys.readouterr().err
    for options, message in (
        (["--values", "5", "10", "20", "--n", "2"], "--n 2 is too few for 3 --values"),
        (["--values", "5", "--seed", "-4"], "seed must be 0 or more, not -4"),
    ):
        with pytest.raises(SystemExit):
            sample_command([str(prior), *options, "--out", str(tmp_path / "made")])
        assert message in capsys.readouterr().err
    seed = str(2**63 - 1)
    with pytest.raises(SystemExit):
        sample_command([str(prior), "--values", "5", "--n", "2", "--seed", seed, "--out", str(tmp_path / "made")])
    assert (
        "the seeds 9223372036854775807 to 9223372036854775808 exceed 64 bits: give another" in capsys.readouterr().err
    )
    assert not (tmp_path / "made").exists()


def test_a_generator_is_no_predictor(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict_command([str(prior), "new.cif", "--out", str(tmp_path / "x.csv")])
    assert "is a generator, not a predictor: python -m matwheel.sample takes it" in capsys.readouterr().err


def test_a_file_is_no_folder_to_write_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    for command, options in ((sample_command, ["--values", "5"]), (export_command, [])):
        with pytest.raises(SystemExit):
            command(["none.ckpt", *options, "--out", str(tmp_path / "notes.txt")])
        assert "notes.txt is a file: name a folder as --out" in capsys.readouterr().err


def test_an_autoencoder_alone_is_no_generator(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    autoencoder = Path(str(prior).replace("prior", "vae"))
    with pytest.raises(SystemExit):
        export_command([str(autoencoder), "--out", str(tmp_path / "x")])
    assert "is the autoencoder of a generator alone, neither a predictor nor a generator" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        sample_command([str(autoencoder), "--values", "5", "--out", str(tmp_path / "x")])
    assert "not a generator: give the checkpoint of its prior, such as stages/prior" in capsys.readouterr().err


def test_only_an_earlier_export_is_replaced(prior: Path, tmp_path: Path) -> None:
    for name, file in (("project", "README.md"), ("stage", "predictor.skops"), ("notes", "config.yaml")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("mine")
        with pytest.raises(ValueError, match=f"{name} is neither empty nor an earlier export: name a new folder"):
            export(prior, tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == [file]
        assert (tmp_path / name / file).read_text() == "mine"
    (tmp_path / "new").mkdir()
    for _ in range(2):
        export(prior, tmp_path / "new")
    (tmp_path / "new" / "predictor.skops").touch()
    export(prior, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
    ]


def test_an_exported_config_names_no_folder_of_its_author(tmp_path: Path) -> None:
    checkpoint = train_predictor(tmp_path)
    file = find_config(checkpoint)
    config = yaml.safe_load(file.read_text())
    config["data"]["init_args"]["split"] = {
        "class_path": "matwheel.data.splits.FileSplit",
        "init_args": {"path": "/home/author/secret/splits.json", "index": 1},
    }
    file.write_text(yaml.safe_dump(config))
    export(checkpoint, tmp_path / "model")
    texts = [path.read_text() for path in (tmp_path / "model").glob("*.*") if path.suffix in (".yaml", ".md")]
    assert len(texts) == 2
    assert not any("secret" in text or str(tmp_path) in text for text in texts)
    assert yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())["data"]["init_args"]["split"] == {
        "class_path": "matwheel.data.splits.FileSplit",
        "init_args": {"path": "splits.json", "index": 1},
    }
