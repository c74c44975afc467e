"""The functions for scripts do what the commands do, on what a person has at hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.io import read
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import matwheel
from matwheel import api
from matwheel.metrics.pool import Pool
from matwheel.predict import main as predict_command
from tests.data.samples import CAESIUM_CHLORIDE, cif
from tests.trained import train_generator, train_predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Path:
    return train_predictor(folder)


def test_atoms_structures_and_files_have_the_same_predictions(folder: Path, predictor: Path, tmp_path: Path) -> None:
    table = folder / "small.xyz"
    atoms = read(table, ":5")
    structures = [AseAtomsAdaptor.get_structure(one) for one in atoms]
    predict_command([str(predictor), str(table), "--out", str(tmp_path / "p.csv")])
    expected = pd.read_csv(tmp_path / "p.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(api.predict(predictor, table), expected, check_exact=True)
    for given in (atoms, structures):
        frame = api.predict(str(predictor), given)
        np.testing.assert_allclose(frame["prediction"], expected["prediction"][:5], rtol=1e-4)


def test_every_crystal_given_has_a_row(folder: Path, predictor: Path, tmp_path: Path) -> None:
    good = read(folder / "small.xyz", "0")
    close = Structure(Lattice.cubic(4), ["H", "H"], [[0, 0, 0], [0, 0, 0.05]])
    copied = shutil.copytree(predictor.parents[1], tmp_path / "copied")
    frame = api.predict([predictor, copied / predictor.relative_to(predictor.parents[1])], [close, good])
    assert frame["prediction"].isna().tolist() == [True, False]
    assert frame["spread"].tolist()[1] == 0
    assert frame["id"].tolist() == ["row-0", good.info["id"]]


def test_models_are_given_once_each(folder: Path, predictor: Path) -> None:
    for models, message in (
        ([], "no model is given"),
        ([predictor, predictor.parent], r"best\.ckpt is given 2 times: give each model once"),
    ):
        with pytest.raises(ValueError, match=message):
            api.predict(models, folder / "small.xyz")


@pytest.mark.slow  # processes that judge crystals take their time to start
def test_samples_can_be_judged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATWHEEL_CACHE", str(tmp_path))
    prior = train_generator(folder)
    structures = api.sample(prior, 10.0, n=3, seed=5)
    assert api.sample(prior, [[10.0]], n=3, seed=5) == structures
    assert [one.properties["seed"] for one in structures] == [5, 6, 7]
    assert [one.properties["condition_poly_total"] for one in structures] == [10.0] * 3
    assert {"id", "valid", "parent"} <= set(structures[0].properties)
    third = structures[2].sites
    assert api.sample(prior, [10.0, 20.0], n=1, seed=7)[0].sites == third
    for values in (np.array([10.0, 20.0]), np.array([[10], [20]]), pd.Series([10.0, 20.0], index=["a", "b"])):
        assert api.sample(prior, values, n=np.int64(1), seed=7)[0].sites == third
    for values, n, message in (
        ([[1.0, 2.0]], 1, r"has the conditions \['poly_total'\]: give one value for each, not \[\[1\.0, 2\.0\]\]"),
        ([[1.0], [1.0, 2.0]], 1, "give every crystal as many values as the others"),
        ("10", 1, r"the values of \['poly_total'\] are numbers, not '10'"),
        ([None], 1, r"the values of \['poly_total'\] are numbers, not \[None\]"),
        ([], 1, "give the conditions as a list of rows"),
        (10.0, 2.5, r"n is how many crystals to make: give a whole number from 1 on, not 2\.5"),
        (10.0, 0, "give a whole number from 1 on, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            api.sample(prior, values, n)
    pool = Pool(processes=1)
    evaluation = api.evaluate(structures, read(folder / "small.xyz", ":3"), pool=pool)
    assert len(evaluation.structures) == 3
    assert {"COV-P", "valid (both)"} <= {figure.name for figure in evaluation.figures}
    of_text = api.evaluate(structures, cif(CAESIUM_CHLORIDE), pool=pool)
    assert len(of_text.structures) == 3


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, matwheel; matwheel.__version__; print({'torch', 'pymatgen', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert printed == "set()\n"


def test_the_package_knows_its_api_and_nothing_else() -> None:
    assert matwheel.__getattr__("api") is api
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        matwheel.nothing  # noqa: B018
