import gzip
import json

import numpy as np
import pytest
from pymatgen.core import Element

from matwheel.data.catalogue import DATASETS, EMBEDDED_DIR, load
from matwheel.data.checks import check_crystal, usable_rows
from matwheel.data.crystal import CrystalTable

EMBEDDED = {"mp_poly_total": 1056, "elastic_tensor_2015": 1181, "piezoelectric_tensor": 941, "flla_2015": 3938}


def test_embedded_names():
    assert {name for name, info in DATASETS.items() if info.embedded} == set(EMBEDDED)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_data_sets_are_complete(name):
    loaded = load(name)
    assert len(loaded) == EMBEDDED[name] == len(set(loaded.table.ids.tolist()))
    assert tuple(loaded.table.properties) == DATASETS[name].targets
    assert loaded.default_target == DATASETS[name].default_target
    assert set(loaded.units) == set(loaded.table.properties)
    usable = usable_rows(loaded, required=DATASETS[name].targets)
    assert len(usable.report) == 0
    assert usable.source_rows.tolist() == list(range(len(loaded)))


def test_embedded_structures_pass_the_checks():
    table = load("mp_poly_total").table
    for row in range(0, len(table), 25):
        check_crystal(table[row])


def test_values_at_both_ends():
    """First row and extremes as in the source, so that columns cannot be swapped."""
    table = load("mp_poly_total").table
    assert table.ids[0] == "mp-441"
    assert table[0].to_structure().composition.reduced_formula == "Rb2Te"
    assert table.properties["poly_total"][0] == 6.23
    assert table.properties["n"][0] == 1.86
    assert table.properties["poly_total"].max() == 277.78
    assert set(table.properties["pot_ferroelectric"]) == {0.0, 1.0}


@pytest.mark.parametrize("name", EMBEDDED)
def test_saving_again_gives_the_same_bytes(name, tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        load(name).table.save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    stored, again = CrystalTable.load(EMBEDDED_DIR / f"{name}.npz"), CrystalTable.load(paths[0])
    assert stored.fingerprint() == again.fingerprint()
    for property, values in stored.properties.items():
        np.testing.assert_array_equal(values, again.properties[property])


@pytest.mark.parametrize("name", [*EMBEDDED, "jarvis_2d_exfoliation"])
def test_rows_are_those_of_the_independent_copy(shared_data, name):
    """Published splits name rows by position: order, ids, targets and structures must be those of the other copy."""
    content = json.loads(gzip.decompress((shared_data / f"{name}.json.gz").read_bytes()))
    loaded = load(name, shared_data)
    table, records = loaded.table, content["records"]
    assert table.ids.tolist() == [record["id"] for record in records]
    assert loaded.source_rows.tolist() == list(range(len(records)))
    for target in content["targets"]:
        np.testing.assert_allclose(table.properties[target], [record[target] for record in records], rtol=1e-9)
    assert table.num_atoms.tolist() == [len(record["species"]) for record in records]
    numbers = [Element(symbol).Z for record in records for symbol in record["species"]]
    assert table.atomic_numbers.tolist() == numbers
    np.testing.assert_allclose(table.lattices, [record["lattice"] for record in records], atol=1e-5)
    difference = table.frac_coords - np.concatenate([record["frac_coords"] for record in records])
    np.testing.assert_allclose(difference, np.round(difference), atol=1e-5)


def test_licence_travels_with_the_data():
    text = (EMBEDDED_DIR / "LICENSE-matminer.txt").read_text()
    assert "Regents of the University of" in text
    assert "Redistributions in binary form" in text
