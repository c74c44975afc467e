import gzip
import json

import pandas as pd
import pytest

from matwheel.data.catalogue import DATASETS, load
from matwheel.data.rows import Reason
from tests.data.samples import CAESIUM_CHLORIDE, DISORDERED, ROCK_SALT, SKEWED, cif, write_csv


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch):
    monkeypatch.delenv("MATWHEEL_DATA", raising=False)


def write_local(folder, name):
    records = [
        {
            "id": f"x-{i}",
            "serial": i,
            "gap": gap,
            "lattice": structure.lattice.matrix.tolist(),
            "species": [element.symbol for element in structure.species],
            "frac_coords": structure.frac_coords.tolist(),
        }
        for i, (structure, gap) in enumerate([(ROCK_SALT, 8.5), (SKEWED, None), (CAESIUM_CHLORIDE, 8.3)])
    ]
    content = {"name": name, "provenance": {}, "targets": ["gap"], "records": records}
    (folder / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))


def test_every_entry_is_described():
    for info in DATASETS.values():
        assert info.description
        assert info.citation
        assert info.licence
        assert info.default_target == info.targets[0]


def test_local_data_sets_by_name(tmp_path, monkeypatch):
    write_local(tmp_path, "halides")
    loaded = load("halides", tmp_path)
    assert loaded.name == loaded.report.source == "halides"
    assert loaded.table.ids.tolist() == ["x-0", "x-1", "x-2"]
    assert list(loaded.table.properties) == ["gap"]
    assert loaded.default_target == "gap"
    monkeypatch.setenv("MATWHEEL_DATA", str(tmp_path))
    assert len(load("halides")) == 3


def test_data_folder_that_does_not_exist(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"data_dir names .*none, which is not a folder"):
        load("halides", tmp_path / "none")
    monkeypatch.setenv("MATWHEEL_DATA", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="environment variable MATWHEEL_DATA"):
        load("halides")
    assert len(load("piezoelectric_tensor")) == 941


def test_unknown_names_get_help(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'mp_poly_total'") as caught:
        load("mp_polytotal")
    for name in DATASETS:
        assert name in str(caught.value)
    assert "path of a table works too" in str(caught.value)
    write_local(tmp_path, "halides")
    with pytest.raises(ValueError, match="did you mean 'halides'"):
        load("halide", tmp_path)
    with pytest.raises(ValueError, match=r"no data set and no file or folder 'table\.csv'"):
        load("table.csv")
    (tmp_path / "my_crystals.csv").touch()
    with pytest.raises(ValueError, match=r"'\S*my_crystal\.csv'; did you mean '\S*my_crystals\.csv'\? Known data sets"):
        load(str(tmp_path / "my_crystal.csv"))
    for path in ("no/such/folder/t.csv", "x" * 5000, "a\0b"):
        with pytest.raises((ValueError, OSError)):
            load(path)


def test_a_path_is_read_as_a_table(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["geometry", "other", "y"], [[cif(SKEWED), cif(ROCK_SALT), 1]])
    assert load(str(path), structure_column="other").table.num_atoms.tolist() == [8]
    with pytest.raises(ValueError, match="structure_column and id_column are for tables of your own"):
        load("mp_poly_total", structure_column="other")


def test_jarvis_from_a_local_file(shared_data):
    loaded = load("jarvis_2d_exfoliation", shared_data)
    assert len(loaded) == loaded.report.total == 636
    assert loaded.default_target == "exfoliation_en"
    assert loaded.units == {"exfoliation_en": "meV/atom"}


def test_jarvis_through_matminer(monkeypatch):
    frame = pd.DataFrame(
        {
            "structure": [SKEWED, DISORDERED, ROCK_SALT],
            "mpid": ["mp-1", "mp-2", "mp-1"],
            "jid": ["JVASP-1", "JVASP-2", "JVASP-3"],
            "exfoliation_en": [80.0, 70.0, 60.0],
            "e_form": [0.0, 0.0, 0.0],
        }
    )
    monkeypatch.setattr("matminer.datasets.load_dataset", lambda name: {"jarvis_dft_2d": frame}[name])
    loaded = load("jarvis_2d_exfoliation")
    assert loaded.table.ids.tolist() == ["JVASP-1", "JVASP-3"]
    assert loaded.table.properties["exfoliation_en"].tolist() == [80.0, 60.0]
    assert list(loaded.table.properties) == ["exfoliation_en"]
    assert loaded.default_target == "exfoliation_en"
    assert [(bad.row, bad.reason) for bad in loaded.report.bad] == [(1, Reason.DISORDERED)]


@pytest.mark.parametrize("error", [ConnectionError("no route"), UserWarning("hash"), ValueError("damaged")])
def test_jarvis_offline_names_both_ways_out(monkeypatch, error):
    def refuse(name):
        raise error

    monkeypatch.setattr("matminer.datasets.load_dataset", refuse)
    with pytest.raises(ValueError, match=r"run once with a network.*MATWHEEL_DATA"):
        load("jarvis_2d_exfoliation")
