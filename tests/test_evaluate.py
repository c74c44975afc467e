"""The command that evaluates generated crystals."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.io import write

from matwheel.data.crystal import Crystal
from matwheel.evaluate import _default_folder, _judge_name, main
from matwheel.fit import main as fit
from matwheel.metrics.generated import read_generated
from tests.metrics.crystals import caesium_chloride, doubled, moved, rock_salt
from tests.small_data import write_small_table

ROOT = Path(__file__).parents[1]


def _write(path: Path, crystals: list[Crystal], **columns: list[Any]) -> Path:
    frames = [
        Atoms(
            numbers=crystal.atomic_numbers,
            cell=crystal.lattice,
            scaled_positions=crystal.frac_coords,
            pbc=True,
            info={"id": crystal.id, **{name: values[row] for name, values in columns.items()}},
        )
        for row, crystal in enumerate(crystals)
    ]
    write(path, frames, format="extxyz")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ten rows: good, copied, overlapping, flat, not neutral, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    salt = rock_salt()
    overlapping = Crystal("overlap", 4 * np.eye(3), np.array([[0, 0, 0], [0, 0, 0.05]]), np.array([11, 17]))
    flat = Crystal("flat", np.diag([4.0, 4, 1e-3]), np.array([[0.0, 0, 0]]), np.array([11]))
    charged = Crystal("charged", 4.2 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([2, 8]))
    generated = _write(
        folder / "made.extxyz",
        [
            salt,
            salt,
            moved(salt, rng),
            doubled(salt),
            caesium_chloride(),
            rock_salt(19, 17, 6.3),
            overlapping,
            flat,
            charged,
        ],
        condition_poly_total=[float(value) for value in range(9)],
    )
    with generated.open("a") as file:
        file.write('1\nLattice="1 0 0 0 1 0 0 0 oops" Properties=species:S:1:pos:R:3\nH 0 0 0\n')
    reference = _write(folder / "known.extxyz", [rock_salt(3, 9, 4.0), moved(salt, rng)])
    return {"generated": generated, "reference": reference, "folder": folder}


def _evaluate(
    files: dict[str, Path], *options: str, generated: Path | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    out = files["folder"] / "out"
    cache = ["--cache_dir", str(files["folder"] / "cache"), "--out", str(out)]
    pool = ["--pool.processes", "1", "--pool.progress", "false"]
    source = str(generated or files["generated"])
    main([source, "--reference", str(files["reference"]), *cache, *pool, *options])
    return pd.read_csv(out / "structures.csv"), json.loads((out / "metrics.json").read_text())


def _figures(record: dict[str, Any]) -> dict[str, tuple[int | None, int]]:
    return {figure["name"]: (figure["count"], figure["total"]) for figure in record["figures"]}


def test_inputs_and_results_of_trainings_are_not_replaced(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mine" / "structures.csv"
    table.parent.mkdir()
    table.write_text("id,cif\n")
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "stage.json").write_text("{}")
    for generated, reference, out, message in (
        (table, files["reference"], table.parent, "structures.csv is an input and would be replaced"),
        (files["generated"], table, table.parent, "structures.csv is an input and would be replaced"),
        (table.parent, files["reference"], table.parent, "would be taken for the names of its crystals"),
        (files["generated"], files["reference"], tmp_path / "stage", "stage holds the results of a training"),
    ):
        with pytest.raises(SystemExit):
            main([str(generated), "--reference", str(reference), "--out", str(out)])
        assert message in capsys.readouterr().err
    assert table.read_text() == "id,cif\n"
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["stage.json"]


def test_every_row_counts(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table, record = _evaluate(files)
    assert table["row"].tolist() == list(range(10))
    assert table["unreadable"].notna().tolist() == [False] * 9 + [True]
    assert table["structure_valid"].eq(True).tolist() == [True] * 6 + [False, False, True, False]
    assert table["id"].tolist()[:3] == ["salt", "salt#2", "moved"]
    assert table["duplicate_of"].fillna("").tolist() == ["", "salt", "salt", "salt"] + [""] * 6
    assert table["matched_reference"].fillna("").tolist() == ["moved"] * 4 + [""] * 6
    assert table["space_group"].tolist()[:6] == [225, 225, 225, 225, 221, 225]
    figures = _figures(record)
    assert figures["readable"] == (9, 10)
    assert figures["structure valid"] == (7, 10)
    assert figures["composition valid"] == (8, 10)
    assert figures["valid (both)"] == (6, 10)
    assert figures["above 1000 A^3 per atom"] == (0, 7)
    assert figures["fingerprint"] == (8, 10)
    assert figures["unique"] == (4, 7)
    assert figures["novel"] == (3, 7)
    assert figures["copies of reference crystals"] == (4, 7)
    assert figures["valid, unique and novel"] == (2, 10)
    assert figures["Wasserstein density"] == (None, 6)
    assert record["failures"] == {
        "reading": {"unreadable structure": 1},
        "fingerprint": {"no sane cell": 1},
    }
    assert record["histograms"]["space_group"] == {"generated": {"221": 2, "225": 5}, "reference": {"225": 2}}
    assert record["settings"]["tolerances"] == {"length": 0.2, "site": 0.3, "angle": 5.0}
    printed = capsys.readouterr().out
    assert "60.00 %" in printed
    assert "tolerances: length 0.2" in printed
    assert "failures in fingerprint: 1 x no sane cell" in printed


def test_rows_of_the_reference_that_cannot_be_read_are_named_and_no_other_is_left_out(
    files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    reference = _write(files["folder"] / "twice.extxyz", [rock_salt(3, 9, 4.0, id="a"), rock_salt(id="a")])
    with reference.open("a") as file:
        file.write('1\nLattice="1 0 0 0 1 0 0 0 oops" Properties=species:S:1:pos:R:3\nH 0 0 0\n')
    with caplog.at_level("WARNING"):
        table, record = _evaluate({**files, "reference": reference})
    assert "they are missing where crystals are compared" in caplog.text
    assert (record["reference"]["rows"], record["reference"]["skipped"]) == (2, 1)
    assert table["matched_reference"].fillna("").tolist()[:4] == ["a#2"] * 4


def test_a_set_against_itself_is_covered(files: dict[str, Path]) -> None:
    _, record = _evaluate(files, "--cutoffs.structure", "1e-9", generated=files["reference"])
    figures = {figure["name"]: figure["value"] for figure in record["figures"]}
    assert figures["COV-R"] == figures["COV-P"] == 1
    assert figures["novel"] == figures["Wasserstein density"] == figures["space groups, total variation"] == 0
    assert record["settings"]["cutoffs"] == {"structure": 1e-9, "composition": 10.0}


def test_cells_too_large_for_the_data_layer_are_counted(files: dict[str, Path]) -> None:
    huge = Crystal("huge", 30 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([11, 17]))
    made = _write(files["folder"] / "huge.extxyz", [rock_salt(), huge])
    figures = _figures(_evaluate(files, generated=made)[1])
    assert figures["structure valid"] == (2, 2)
    assert figures["above 1000 A^3 per atom"] == (1, 2)
    assert figures["in one piece"] == (1, 2)
    assert figures["  of the reference"][0] == figures["  of the reference"][1] > 0


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/mine/version_0/checkpoints/best.ckpt", "mine"),
        ("runs/wheel/stages/predictor-F/best.ckpt", "predictor-F"),
        ("my_model/model.safetensors", "my_model"),
    ],
)
def test_a_judge_has_the_name_of_its_run(path: str, name: str) -> None:
    assert _judge_name(Path(path)) == name


def test_the_folder_is_named_as_what_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    assert _default_folder("samples/made.csv.gz") == Path("samples/made-evaluation")
    assert _default_folder("../made") == Path("../made-evaluation")
    assert _default_folder(".") == tmp_path / "made-evaluation"


def test_time_outs_are_counted(files: dict[str, Path]) -> None:
    table, record = _evaluate(files, "--pool.timeout", "1e-9")
    assert record["failures"]["fingerprint"] == {"time-out": 8, "no sane cell": 1}
    assert record["failures"]["uniqueness"] == {"time-out": 5}
    assert record["failures"]["space_group"] == {"time-out": 7}
    assert _figures(record)["COV-P"] == (0, 10)
    assert _figures(record)["structure valid"] == (7, 10)
    assert table["space_group"].isna().all()


def test_conditions_are_judged_by_a_predictor(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files["folder"])
    monkeypatch.setattr(sys, "argv", ["fit"])
    data = write_small_table(files["folder"] / "small.xyz", count=12)
    options = {
        "name": "judge",
        "data.dataset": str(data),
        "data.target": "poly_total",
        "data.cache_dir": "cache",
        "trainer.max_epochs": "1",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
    }
    config = str(ROOT / "configs" / "predictor" / "cgcnn.yaml")
    fit(["fit", "-c", config, *(part for name, value in options.items() for part in (f"--{name}", value))])
    checkpoint = next(Path("runs/judge/version_0/checkpoints").glob("*best*.ckpt"))
    monkeypatch.setattr("matwheel.evaluate.unit_in_text", lambda dataset, target: f"unit of {target}")
    table, record = _evaluate(files, "--predictor", str(checkpoint))
    assert table["predicted (judge)"].notna().tolist() == [True] * 6 + [False, False, True, False]
    by_name = {figure["name"]: figure for figure in record["figures"]}
    error = (table["predicted (judge)"] - table["condition_poly_total"]).abs().mean()
    assert by_name["condition MAE (judge)"]["value"] == pytest.approx(error)
    assert by_name["condition MAE (judge)"]["total"] == 7
    assert by_name["condition MAE (judge)"]["unit"] == "unit of poly_total"
    text = files["generated"].read_text()
    (files["folder"] / "asked.extxyz").write_text(text.replace("condition_poly_total", "condition_gap"))
    asked = {**files, "generated": files["folder"] / "asked.extxyz"}
    message = "predicts poly_total, and the crystals were asked for by condition_gap"
    _expect_error(asked, ["--predictor", str(checkpoint)], message, capsys)
    moved_checkpoint = files["folder"] / "elsewhere" / "deep" / "best.ckpt"
    moved_checkpoint.parent.mkdir(parents=True)
    moved_checkpoint.write_bytes(checkpoint.read_bytes())
    for options, message in [
        (["--predictor", str(moved_checkpoint)], "no config.yaml"),
        (["--predictor", "none.ckpt"], "no such checkpoint"),
        (["--predictor", str(checkpoint), "--condition", "gap"], "no numeric property 'gap'"),
    ]:
        _expect_error(files, options, message, capsys)


def test_stability_by_a_potential(files: dict[str, Path]) -> None:
    pytest.importorskip("chgnet", reason='needs the optional dependencies: pip install "matwheel[potentials]"')
    table, record = _evaluate(files, "--potential", "chgnet", "--relaxation.max_steps", "3")
    assert record["settings"]["potential"]["chgnet"] == "0.3.0"
    assert record["settings"]["potential"]["max_steps"] == 3
    sane = table["structure_valid"].eq(True)
    for column in ("energy_excess", "relaxed_energy_excess", "energy_drop"):
        assert table[column].notna().tolist() == sane.tolist()
    assert table["energy_excess"][0] == pytest.approx(table["energy_excess"][3], abs=1e-4)  # a supercell
    figures = _figures(record)
    assert figures["usual energy excess"][1] == figures["usual relaxed energy excess"][1] == 7
    assert figures["median energy lost in relaxation"] == (None, 7)


def test_a_missing_package_is_named_before_anything_is_computed(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matwheel.metrics.potential.find_spec", lambda name: None)
    monkeypatch.delattr("matwheel.evaluate.Fingerprints")
    _expect_error(files, ["--potential", "chgnet"], 'pip install "matwheel[potentials]"', capsys)


def test_errors_say_what_to_do(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _expect_error(files, ["--reference", "mp_poly_totl"], "did you mean 'mp_poly_total'", capsys)
    _expect_error(files, ["--cutoffs.structure", "-1"], "cut-offs must be above 0", capsys)


def _expect_error(files: dict[str, Path], options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(files["generated"]), "--reference", str(files["reference"]), *options]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_absurd_crystals_are_read_whatever_the_format(tmp_path: Path) -> None:
    bad = {"lattice": (0.1 * np.eye(3)).tolist(), "species": ["Na", "Na"], "frac_coords": [[0, 0, 0], [0, 0, 0]]}
    empty = {"lattice": np.eye(3).tolist(), "species": [], "frac_coords": []}
    path = tmp_path / "made.json"
    path.write_text(
        json.dumps([{"id": name, "structure": cell} for name, cell in (("a", bad), ("a", bad), ("b", empty))])
    )
    loaded = read_generated(str(path))
    assert loaded.table.ids.tolist() == ["a", "a#2"]
    assert [(row.row, row.id) for row in loaded.report.bad] == [(2, "b")]
    assert loaded.report.total == 3


def test_ids_given_twice_get_new_ones(tmp_path: Path) -> None:
    names = ["x", "x#2", "x", "y", "x"]
    salt = rock_salt()
    crystals = [Crystal(name, salt.lattice, salt.frac_coords, salt.atomic_numbers) for name in names]
    assert read_generated(str(_write(tmp_path / "made.xyz", crystals))).table.ids.tolist() == [
        "x",
        "x#2",
        "x#3",
        "y",
        "x#4",
    ]


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "matwheel.evaluate", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "--tolerances.angle" in printed
    assert "Degrees" in printed
