"""Predictions from a checkpoint alone, alike before and after export."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from matwheel import api
from matwheel.checkpoint_file import read_checkpoint
from matwheel.export import main as export
from matwheel.files import VALIDATION_PREDICTIONS
from matwheel.fit import main as fit
from matwheel.models.predictor import PropertyPredictor
from matwheel.models.trained import WEIGHTS
from matwheel.predict import main as predict
from tests.data.samples import CAESIUM_CHLORIDE, ROCK_SALT, cif
from tests.test_cli import CONFIGS, QUIET, _args
from tests.trained import SMALL_NETWORK, train_predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictors")


@pytest.fixture(scope="module")
def checkpoints(folder: Path) -> list[Path]:
    return [train_predictor(folder, seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def exported(folder: Path, checkpoints: list[Path]) -> list[Path]:
    folders = [folder / "exported" / str(seed) for seed in (0, 1)]
    for checkpoint, to in zip(checkpoints, folders, strict=True):
        export([str(checkpoint), "--out", str(to)])
    return folders


def predicted(out: Path, *args: object) -> pd.DataFrame:
    predict([*map(str, args), "--out", str(out)])
    return pd.read_csv(out, dtype={"id": str}, float_precision="round_trip")


def test_an_export_predicts_bit_for_bit_the_same(
    folder: Path, tmp_path: Path, checkpoints: list[Path], exported: list[Path]
) -> None:
    before = predicted(tmp_path / "before.csv", checkpoints[0], folder / "small.xyz")
    after = predicted(tmp_path / "after.csv", exported[0], folder / "small.xyz")
    assert list(before.columns) == ["id", "prediction", "target"]
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    weights, carried = (read_checkpoint(path)["state_dict"] for path in (checkpoints[0], exported[0] / WEIGHTS))
    assert set(weights) == set(carried)
    for name, value in carried.items():
        assert np.array_equal(value, weights[name]), name


def test_predictions_are_those_of_fit_predict(
    folder: Path, tmp_path: Path, checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data.dataset", str(folder / "small.xyz"), "--data.target", "poly_total", "--data.cache_dir", "cache"]
    model = ["--ckpt_path", str(checkpoints[0]), *SMALL_NETWORK, "--name", "p", "--trainer.accelerator", "cpu"]
    fit([*_args("predict", CONFIGS / "predictor" / "cgcnn.yaml"), *data, *model, *QUIET])
    ours = predicted(tmp_path / "predictions.csv", checkpoints[0], folder / "small.xyz")
    theirs = pd.read_csv("runs/p/version_0/predictions.csv")
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_the_target_beside_predictions_is_what_the_model_predicts(
    known: bool, tmp_path: Path, checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"cif": [cif(CAESIUM_CHLORIDE), cif(ROCK_SALT)], "year": [1998, 2004]}
    pd.DataFrame(columns | ({"poly_total": [7.25, 5.5]} if known else {})).to_csv("new.csv", index=False)
    model = ["--ckpt_path", str(checkpoints[0]), *SMALL_NETWORK, "--name", "p", "--trainer.accelerator", "cpu"]
    data = ["--data.dataset", "new.csv", "--data.cache_dir", "cache"]
    fit([*_args("predict", CONFIGS / "predictor" / "cgcnn.yaml"), *data, *model, *QUIET])
    table = pd.read_csv("runs/p/version_0/predictions.csv")
    assert list(table.columns) == ["id", "prediction", *(["target"] if known else [])]
    if known:
        assert table["target"].tolist() == [7.25, 5.5]


def test_rows_that_are_only_predicted_may_share_an_id(
    tmp_path: Path, checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    structures = [cif(CAESIUM_CHLORIDE), cif(ROCK_SALT), cif(CAESIUM_CHLORIDE)]
    pd.DataFrame({"id": ["a", "a", ""], "cif": structures}).to_csv("new.csv", index=False)
    model = ["--ckpt_path", str(checkpoints[0]), *SMALL_NETWORK, "--name", "p", "--trainer.accelerator", "cpu"]
    data = ["--data.dataset", "new.csv", "--data.cache_dir", "cache"]
    fit([*_args("predict", CONFIGS / "predictor" / "cgcnn.yaml"), *data, *model, *QUIET])
    assert pd.read_csv("runs/p/version_0/predictions.csv")["id"].tolist() == ["a", "a#2", "row-2"]


def test_the_device_may_be_named(folder: Path, tmp_path: Path, checkpoints: list[Path]) -> None:
    crystals = folder / "small.xyz"
    expected = predicted(tmp_path / "auto.csv", checkpoints[0], crystals)
    for frame in (
        predicted(tmp_path / "cpu.csv", checkpoints[0], crystals, "--device", "cpu"),
        api.predict(checkpoints[0], crystals, device="cpu"),
    ):
        pd.testing.assert_frame_equal(frame, expected)


def test_several_models_give_mean_and_spread(
    folder: Path, tmp_path: Path, checkpoints: list[Path], exported: list[Path]
) -> None:
    one, other = (predicted(tmp_path / "one.csv", path, folder / "small.xyz") for path in checkpoints)
    both = predicted(tmp_path / "both.csv", checkpoints[0], folder / "small.xyz", "--model", exported[1])
    values = np.stack([one["prediction"], other["prediction"]])
    np.testing.assert_allclose(both["prediction"], values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(both["spread"], values.std(0, ddof=1), rtol=1e-9)
    of_a_folder = predicted(tmp_path / "folder.csv", exported[0].parent, folder / "small.xyz")
    pd.testing.assert_frame_equal(both, of_a_folder, check_exact=True)


def test_cif_files_and_folders_and_bad_rows(tmp_path: Path, exported: list[Path]) -> None:
    (tmp_path / "cifs").mkdir()
    for name, text in {"good": cif(CAESIUM_CHLORIDE), "bad": "data_\n_cell_length_a 1"}.items():
        (tmp_path / "cifs" / f"{name}.cif").write_text(text)
    for inputs in ([tmp_path / "cifs"], sorted((tmp_path / "cifs").iterdir())):
        table = predicted(tmp_path / "out" / "predictions.csv", exported[0], *inputs)
        assert table["id"].tolist() == ["good"]
        skipped = tmp_path / "out" / "predictions_skipped.csv"
        listed = pd.read_csv(skipped)
        assert listed["id"].tolist() == ["bad"]
        sources = [] if len(inputs) == 1 else [str(tmp_path / "cifs" / "bad.cif")]
        assert listed.get("source", pd.Series()).tolist() == sources
    for name in ("another.csv", "skipped_rows.csv"):
        predicted(tmp_path / "out" / name, exported[0], tmp_path / "cifs" / "good.cif")
    assert skipped.is_file()
    predicted(tmp_path / "out" / "skipped_rows.csv", exported[0], tmp_path / "cifs")
    predicted(tmp_path / "out" / "predictions.csv", exported[0], tmp_path / "cifs" / "good.cif")
    names = ["another.csv", "predictions.csv", "skipped_rows.csv", "skipped_rows_skipped.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    twice = predicted(tmp_path / "twice.csv", exported[0], *[tmp_path / "cifs" / "good.cif"] * 2)
    assert twice["id"].tolist() == ["good", "good#2"]
    (tmp_path / "others").mkdir()
    other = shutil.copy(tmp_path / "cifs" / "good.cif", tmp_path / "others")
    several = predicted(tmp_path / "several.csv", exported[0], tmp_path / "cifs", other)
    assert several[["id", "source"]].values.tolist() == [["good", f"{tmp_path}/cifs"], ["good#2", str(other)]]
    assert twice["prediction"].nunique() == 1
    predict([str(exported[0]), str(tmp_path / "cifs" / "good.cif"), "--out", str(tmp_path / "p.parquet")])
    assert pd.read_parquet(tmp_path / "p.parquet").columns.tolist() == ["id", "prediction"]


def test_what_cannot_be_used_is_a_message(
    folder: Path,
    tmp_path: Path,
    checkpoints: list[Path],
    exported: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    other = train_predictor(folder, target="band_gap")
    alone = tmp_path / "alone" / "deep" / "best.ckpt"
    alone.parent.mkdir(parents=True)
    alone.write_bytes(checkpoints[0].read_bytes())
    (tmp_path / "damaged").mkdir()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "d_skipped.csv").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for file in ("F/best.ckpt", "trees/predictor.skops", "labels/labels.parquet"):
        (tmp_path / "stages" / file).parent.mkdir(parents=True)
        (tmp_path / "stages" / file).touch()
        (tmp_path / "stages" / file).with_name("stage.json").touch()
    for version in (2, 10):
        best = tmp_path / "run" / f"version_{version}" / "checkpoints" / "best.ckpt"
        best.parent.mkdir(parents=True)
        best.touch()
    (tmp_path / "damaged" / WEIGHTS).write_bytes(b"\xff" * 100)
    crystals = folder / "small.xyz"
    for args, message in [
        (["none.ckpt", crystals], "no such checkpoint: none.ckpt"),
        ([alone, crystals], "no config.yaml beside"),
        ([alone.parent.parent, crystals], "holds no model: give a checkpoint"),
        (["damaged", crystals], "does not hold the weights of a model of this program, or is damaged"),
        ([exported[0], crystals, "--model", exported[0]], "is given 2 times: give each model once"),
        (
            ["stages", crystals],
            "stages holds the stages of a run, whose models are of many arms: name one of F, trees",
        ),
        (
            [".", crystals],
            "whose models are of many arms: name one of stages/F, stages/trees in it",
        ),
        (["run", crystals], "or one with predictor.skops; did you mean run/version_10/checkpoints/best.ckpt?"),
        ([exported[0], "none.cif"], "no such table: none.cif"),
        ([exported[0], crystals, "--out", "x.xls"], "name a .csv or a .parquet file as --out"),
        ([exported[0], crystals, "--out", "folder.csv"], "folder.csv is a folder: name a file in it as --out"),
        ([exported[0], crystals, "--out", "d.csv"], "d_skipped.csv is no list of skipped rows and would be replaced"),
        ([exported[0], crystals, "--out", f"damaged/{WEIGHTS}/x.csv"], "cannot write"),
        ([exported[0], "loop"], "'loop' cannot be a file or folder (Too many levels of symbolic links)"),
        (["loop", crystals], "'loop' cannot be a file or folder"),
        ([exported[0], "x" * 5000], f"{'x' * 100}' cannot be a file or folder (File name too long): give another"),
        ([exported[0], crystals, "--model", other], "these models predict different properties"),
        ([exported[0], crystals, "--device", "cuda:9"], "error: there is no device 'cuda:9' to compute on: give auto"),
    ]:
        with pytest.raises(SystemExit) as stop:
            predict([str(arg) for arg in args])
        assert stop.value.code == 1
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("part", ["network", "transform", "model"])
def test_a_config_builds_nothing_but_models(
    part: str, tmp_path: Path, exported: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Class paths in a foreign config are refused unless they fit the option that they are for."""
    evil = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "ran")]}}
    config = yaml.safe_load((exported[0] / "config.yaml").read_text())
    if part == "model":
        config["model"] = evil
    else:
        config["model"]["init_args"][part] = evil
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / WEIGHTS).write_bytes((exported[0] / WEIGHTS).read_bytes())
    with pytest.raises(SystemExit):
        predict([str(tmp_path), "x.cif"])
    assert "is not the config of a PropertyPredictor" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_the_model_card_says_what_it_is(exported: list[Path], checkpoints: list[Path]) -> None:
    card = (exported[0] / "README.md").read_text()
    split = json.loads((checkpoints[0].parents[1] / "split.json").read_text())
    for phrase in (
        "# poly_total: CGCNN (PropertyPredictor)",
        "- data set: small.xyz",
        f"train {len(split['train'])}",
        "- split: RandomSplit",
        "val/mae: ",
        "Intended use",
        "Out of scope",
        "Licence",
        "python -m matwheel.predict 0 ",
    ):
        assert phrase in card
    folder = checkpoints[0].parents[3]
    assert str(folder) not in card + (exported[0] / "config.yaml").read_text()


def test_intervals_are_calibrated_on_validation_rows(
    folder: Path, tmp_path: Path, checkpoints: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    models = [tmp_path / str(seed) / "best.ckpt" for seed in (0, 1)]
    tables = [model.with_name(VALIDATION_PREDICTIONS) for model in models]
    for model, checkpoint in zip(models, checkpoints, strict=True):
        shutil.copytree(checkpoint.parent, model.parent)
        shutil.copy(checkpoint.parents[1] / "config.yaml", model.parent)
    rows = json.loads((checkpoints[0].parents[1] / "split.json").read_text())["val"]
    crystals, interval = folder / "small.xyz", ("--interval", "0.5")

    def columns(*args: object) -> list[str]:
        return list(predicted(tmp_path / "p.csv", *args, *interval).columns)

    alone = predicted(tmp_path / "alone.csv", models[0], crystals, *interval).set_index("id")
    assert list(alone.columns) == ["prediction", "low", "high", "target"]
    kept = pd.read_csv(tables[0], index_col="id")
    np.testing.assert_allclose(kept.loc[rows, "prediction"], alone.loc[rows, "prediction"], rtol=1e-5)
    assert len(kept) == len(rows)
    assert alone.loc[rows].eval("low <= target <= high").mean() >= 0.5

    other_order = pd.read_csv(tables[1])[::-1]
    other_order.to_csv(tables[1], index=False)
    both = predicted(tmp_path / "both.csv", models[0], crystals, "--model", models[1], *interval)
    assert list(both.columns) == ["id", "prediction", "spread", "low", "high", "target"]
    export([str(models[0]), "--out", str(tmp_path / "exported")])
    carried = predicted(tmp_path / "carried.csv", tmp_path / "exported", crystals, "--model", models[1], *interval)
    pd.testing.assert_frame_equal(both, carried, check_exact=True)
    assert "`--interval` calibrates them" in (tmp_path / "exported" / "README.md").read_text()

    other_order[1:].to_csv(tables[1], index=False)
    assert "low" not in columns(models[0], crystals, "--model", models[1])
    assert "no interval: the models were not validated on the same rows" in caplog.text
    tables[1].unlink()
    assert "low" not in columns(models[0], crystals, "--model", models[1])
    assert "no interval: 1 of 2 models have no validation_predictions.csv beside them" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PropertyPredictor, "forward", lambda *_: pytest.fail("predicted first"))
        with pytest.raises(SystemExit):
            predicted(tmp_path / "p.csv", models[0], crystals, "--interval", "0.99")
    shutil.copy(models[0], models[0].with_name("another.ckpt"))  # the table may be about either
    assert "low" not in columns(models[0], crystals)
    models[0].with_name("another.ckpt").unlink()
    tables[0].write_text("id,x\n1,2\n")
    with pytest.raises(SystemExit):
        columns(models[0], crystals)


def test_inputs_are_not_replaced(folder: Path, tmp_path: Path, checkpoints: list[Path]) -> None:
    table, skipped = tmp_path / "mine.csv", tmp_path / "other_skipped.csv"
    table.write_text("id,cif\n")
    skipped.write_text("id,cif\n")
    for given, out in (
        (table, tmp_path / "." / "mine.csv"),
        (skipped, tmp_path / "other.csv"),
        (folder / "small.xyz", tmp_path / "other.csv"),  # the list of its skipped rows would replace another table
    ):
        with pytest.raises(SystemExit):
            predict([str(checkpoints[0]), str(given), "--out", str(out)])
        assert table.read_text() == skipped.read_text() == "id,cif\n"


@pytest.mark.parametrize("place", ["runs/x/stages/predictor-F", "runs/x/version_0", "runs/x"])
def test_results_of_a_training_are_not_replaced(
    place: str,
    folder: Path,
    tmp_path: Path,
    checkpoints: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inside = tmp_path / place
    (tmp_path / "runs/x/stages/predictor-F").mkdir(parents=True)
    (tmp_path / "runs/x/version_0").mkdir()
    for record in ("ledger.json", "version_0/run.json", "stages/predictor-F/stage.json"):
        (tmp_path / "runs/x" / record).write_text("{}")
    results = inside / "predictions.csv"
    results.write_text("of the test crystals")
    monkeypatch.chdir(inside)
    with pytest.raises(SystemExit):
        predict([str(checkpoints[0]), str(folder / "small.xyz")])
    elsewhere = tmp_path / "runs" / "predictions.csv"
    error = capsys.readouterr().err
    assert f"{inside} holds the results of a training, among which nothing else is written" in error
    assert f"name another --out, such as {elsewhere}\n" in error
    assert results.read_text() == "of the test crystals"
    predicted(elsewhere, checkpoints[0], folder / "small.xyz")


def test_what_intervals_are_calibrated_by_is_not_replaced(
    folder: Path, checkpoints: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table = checkpoints[0].with_name(VALIDATION_PREDICTIONS)
    before = table.read_text()
    with pytest.raises(SystemExit):
        predict([str(checkpoints[0]), str(folder / "small.xyz"), "--out", str(table)])
    assert "is what training leaves beside a model, to calibrate intervals by" in capsys.readouterr().err
    assert table.read_text() == before


def test_the_table_of_a_folder_is_not_replaced(tmp_path: Path, checkpoints: list[Path]) -> None:
    (tmp_path / "a.cif").write_text(cif(CAESIUM_CHLORIDE))
    (tmp_path / "mine.csv").write_text("id\na\n")
    for name in ("mine.csv", "other.csv", "other.parquet"):
        with pytest.raises(SystemExit):
            predict([str(checkpoints[0]), str(tmp_path), "--out", str(tmp_path / name)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cif", "mine.csv"]
    predicted(tmp_path / "predictions.csv", checkpoints[0], tmp_path)


def test_the_column_of_the_training_can_be_named(tmp_path: Path, checkpoints: list[Path]) -> None:
    salt = cif(CAESIUM_CHLORIDE)
    table = tmp_path / "two.csv"
    pd.DataFrame({"cif": [salt], "relaxed": [cif(ROCK_SALT)], "Material": ["a"]}).to_csv(table, index=False)
    plain = predicted(tmp_path / "plain.csv", checkpoints[0], table)
    named = ["--structure_column", "relaxed", "--id_column", "Material"]
    relaxed = predicted(tmp_path / "relaxed.csv", checkpoints[0], table, *named)
    assert (plain["id"].tolist(), relaxed["id"].tolist()) == (["row-0"], ["a"])
    assert plain["prediction"].tolist() != relaxed["prediction"].tolist()
    frame = api.predict(checkpoints[0], table, structure_column="relaxed", id_column="Material")
    assert frame["prediction"].tolist() == pytest.approx(relaxed["prediction"].tolist())
