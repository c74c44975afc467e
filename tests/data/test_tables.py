import contextlib
import csv
import gzip
import json
import re
import shutil
from decimal import Decimal
from itertools import count

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as ase_write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from matwheel.data.catalogue import load
from matwheel.data.cells import niggli_reduce
from matwheel.data.checks import BadStructureError, usable_rows
from matwheel.data.crystal import CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.records import Records, with_distinct_ids
from matwheel.data.rows import LoadedTable, Reason
from matwheel.data.structures import parse_structure
from matwheel.data.tables import read_table
from tests.data.samples import (
    CAESIUM_CHLORIDE,
    DISORDERED,
    ROCK_SALT,
    SKEWED,
    as_json,
    cif,
    large_cell,
    poscar,
    write_csv,
)

STRUCTURES = [ROCK_SALT, CAESIUM_CHLORIDE, SKEWED]
IDS = ["a", "b", "c"]
VALUES = [1.5, -2.0, 3.25]


def records(structure_name="structure", write=cif) -> list[dict]:
    return [
        {"material_id": i, structure_name: write(s), "y": y} for i, s, y in zip(IDS, STRUCTURES, VALUES, strict=True)
    ]


def assert_read(loaded: LoadedTable, property: str = "y") -> None:
    assert loaded.table.ids.tolist() == IDS
    assert loaded.source_rows.tolist() == [0, 1, 2]
    assert list(loaded.table.properties) == [property]
    assert loaded.table.properties[property].tolist() == VALUES
    assert loaded.default_target == property
    assert len(loaded.report) == 0
    for crystal, structure in zip(loaded.table, STRUCTURES, strict=True):
        assert sorted(crystal.atomic_numbers) == sorted(site.specie.Z for site in structure)
        assert crystal.volume == pytest.approx(structure.volume, rel=1e-5)


@pytest.mark.parametrize("write", [cif, poscar, as_json], ids=["cif", "poscar", "json"])
@pytest.mark.parametrize("name", ["structure", "cif", "my geometry"])
def test_csv(tmp_path, name, write):
    path = tmp_path / "table.csv"
    pd.DataFrame(records(name, write)).to_csv(path, index=False)
    assert_read(read_table(path))


def test_csv_with_pandas_index_and_compression(tmp_path):
    path = tmp_path / "table.csv.gz"
    pd.DataFrame(records()).to_csv(path)
    assert_read(read_table(path))


def test_json_layouts(tmp_path):
    rows = records(write=lambda s: s.as_dict())
    frame = pd.DataFrame(rows)
    layouts = {
        "records.json": json.dumps(rows),
        "wrapped.json": json.dumps({"name": "x", "targets": ["y"], "records": [{**row, "z": 1} for row in rows]}),
        "columns.json": json.dumps(frame.to_dict(orient="list")),
        "pandas.json": frame.to_json(),
        "by_id.json": frame.set_index("material_id").to_json(orient="index"),
        "lines.jsonl": frame.to_json(orient="records", lines=True),
    }
    for name, column, write in (("cif", "my geometry", cif), ("arrays", "", as_arrays)):
        by_id = {
            id: {"y": y, **({column: write(s)} if column else write(s))}
            for id, s, y in zip(IDS, STRUCTURES, VALUES, strict=True)
        }
        layouts[f"{name}_by_id.json"] = json.dumps(by_id)
    for name, text in layouts.items():
        (tmp_path / name).write_text(text)
        assert_read(read_table(tmp_path / name))
    alone = {id: structure.as_dict() for id, structure in zip(IDS, STRUCTURES, strict=True)}
    (tmp_path / "alone.json").write_text(json.dumps(alone))
    assert read_table(tmp_path / "alone.json").table.ids.tolist() == IDS
    (tmp_path / "records.json.gz").write_bytes(gzip.compress(layouts["records.json"].encode()))
    assert_read(read_table(tmp_path / "records.json.gz"))


def read_json(tmp_path, content) -> LoadedTable:
    (tmp_path / "table.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_table(tmp_path / "table.json")


def test_columns_of_json_are_aligned_by_their_rows(tmp_path):
    cells = {id: cif(structure) for id, structure in zip(IDS, STRUCTURES, strict=True)}
    values = dict(zip(IDS, VALUES, strict=True))
    assert_read(read_json(tmp_path, {"structure": cells, "y": dict(reversed(values.items()))}))
    assert_read(read_json(tmp_path, {"my geometry": cells, "y": values}))
    assert_read(read_json(tmp_path, pd.DataFrame(records()).set_index("material_id").to_json()))
    kept = pd.DataFrame(records())[["structure", "y"]][1:]
    assert read_json(tmp_path, kept.to_json()).table.ids.tolist() == ["1", "2"]
    with pytest.raises(ValueError, match=r"column 'y' of .* have the rows of column 'structure', for example 'd'"):
        read_json(tmp_path, {"structure": cells, "y": {**values, "d": 1.0}})


@pytest.mark.parametrize("structure", [None, "nonsense"])
def test_a_record_by_id_without_structure_turns_no_other_into_a_column(tmp_path, structure):
    loaded = read_json(tmp_path, {"a": {"cif": cif(SKEWED), "y": 1.5}, "b": {"cif": structure, "y": 2.5}})
    assert (loaded.table.ids.tolist(), [bad.id for bad in loaded.report.bad]) == (["a"], ["b"])
    assert loaded.table.properties["y"].tolist() == [1.5]


def test_an_empty_record_by_id_is_a_bad_row(tmp_path):
    loaded = read_json(tmp_path, {"a": {"cif": cif(SKEWED), "y": 1.5}, "b": None})
    assert (loaded.table.ids.tolist(), [bad.id for bad in loaded.report.bad]) == (["a"], ["b"])
    with pytest.raises(ValueError, match="must hold a list of records or columns of equal length"):
        read_json(tmp_path, {"structure": {"a": cif(SKEWED)}, "y": None})


def test_a_file_may_hold_one_pymatgen_dictionary(tmp_path):
    loaded = read_json(tmp_path, SKEWED.as_dict())
    assert loaded.table.num_atoms.tolist() == [len(SKEWED)]


def test_a_single_record_by_id(tmp_path):
    assert read_json(tmp_path, {"a": {"cif": cif(SKEWED), "y": 1.5}}).table.properties["y"].tolist() == [1.5]
    assert read_json(tmp_path, {"a": SKEWED.as_dict()}).table.ids.tolist() == ["a"]
    with pytest.raises(ValueError, match="crystals cannot be told: call the column of structures 'structure'"):
        read_json(tmp_path, {"a": {"my geometry": cif(SKEWED), "y": 1.5}})
    loaded = read_table(tmp_path / "table.json", structure_column="my geometry")
    assert (loaded.table.ids.tolist(), list(loaded.table.properties)) == (["a"], ["y"])


def test_a_list_of_pymatgen_dictionaries(tmp_path):
    alone = [structure.as_dict() for structure in STRUCTURES]
    loaded = read_json(tmp_path, alone)
    assert loaded.table.num_atoms.tolist() == [len(s) for s in STRUCTURES]
    assert not loaded.table.properties
    merged = [{**s, "material_id": i, "y": y} for s, i, y in zip(alone, IDS, VALUES, strict=True)]
    assert_read(read_json(tmp_path, merged))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, merged)))
    assert_read(read_table(tmp_path / "lines.jsonl"))


def as_arrays(structure) -> dict:
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [element.symbol for element in structure.species],
        "frac_coords": structure.frac_coords.tolist(),
    }


@pytest.mark.parametrize("write", [cif, as_json, as_arrays], ids=["cif", "json", "dict"])
def test_parquet(tmp_path, write):
    path = tmp_path / "table.parquet"
    pd.DataFrame(records(write=write)).to_parquet(path)
    assert_read(read_table(path))


def test_an_index_of_parquet_names_the_crystals(tmp_path):
    path = tmp_path / "table.parquet"
    frame = pd.DataFrame(records())
    unnamed = frame.set_index("material_id").rename_axis(None)
    unnamed.to_parquet(path)
    assert_read(read_table(path))
    unnamed.assign(name=IDS).set_axis([5, 7, 9]).to_parquet(path)
    assert_read(read_table(path, id_column="name"))
    frame.set_axis([5, 7, 9]).to_parquet(path)
    assert_read(read_table(path))
    frame.assign(material_id=[id.encode() for id in IDS]).to_parquet(path)
    assert_read(read_table(path))


@pytest.mark.parametrize("name", ["index", "Index"])
def test_a_column_called_index_is_a_property_unless_it_counts(tmp_path, name):
    rows = [[cif(structure), value] for structure, value in zip(STRUCTURES, VALUES, strict=True)]
    path = write_csv(tmp_path / "table.csv", ["structure", name], rows)
    assert read_table(path).table.properties[name].tolist() == VALUES
    path = write_csv(tmp_path / "table.csv", ["structure", name], [[s, row] for row, (s, _) in enumerate(rows, 5)])
    assert not read_table(path).table.properties


@pytest.fixture(scope="session")
def real_cifs() -> list[str]:
    """With and without symmetry."""
    table = load("piezoelectric_tensor").table
    structures = [table[row].to_structure() for row in (0, 300, 600, 900)]
    return [cif(structures[0]), cif(structures[1]), *(str(CifWriter(s, symprec=0.01)) for s in structures[2:])]


def atoms_of(structure, id, y):
    atoms = AseAtomsAdaptor.get_atoms(structure)
    atoms.info = {"material_id": id, "y": y, "comment": "made by hand"}
    return atoms


def test_extxyz(tmp_path):
    path = tmp_path / "table.extxyz"
    ase_write(path, [atoms_of(s, i, y) for i, s, y in zip(IDS, STRUCTURES, VALUES, strict=True)])
    assert_read(read_table(path))


def test_ids_of_extxyz_are_taken_as_they_are_written(tmp_path):
    ids = ["00012", "000012", "1e5", "T", "mp-1", "12_3", "1.10", "two words"]
    path = tmp_path / "table.extxyz"
    ase_write(path, [atoms_of(CAESIUM_CHLORIDE, f"id-{n}-", 1.0) for n in range(len(ids))])
    text = path.read_text().replace("material_id=", 'note="like material_id=7 and so on" material_id=')
    for n, id in enumerate(ids):
        text = text.replace(f"id-{n}-", f'"{id}"' if " " in id else id)
    path.write_text(text)
    assert read_table(path).table.ids.tolist() == ids


@pytest.mark.parametrize("name", ["dipole", "dielectric_tensor", "polarization", "stress", "virial"])
@pytest.mark.parametrize("value", ["1.5", '"1.5"'])
def test_a_number_in_extxyz_may_be_called_as_what_is_none_in_ase(tmp_path, name, value):
    cell = "4.1 0 0 0 4.1 0 0 0 4.1"
    comment = f'Lattice="{cell}" {name}={value} note="the stress=2 was wrong" Properties=species:S:1:pos:R:3'
    (tmp_path / "table.extxyz").write_text(f"2\n{comment}\nCs 0 0 0\nCl 2.05 2.05 2.05\n")
    loaded = read_table(tmp_path / "table.extxyz")
    assert loaded.table.properties[name].tolist() == [1.5]
    (tmp_path / "table.extxyz").write_text(f'2\nstress="{cell}" {comment.replace(name, "x")}\nCs 0 0 0\nCl 2 2 2\n')
    assert read_table(tmp_path / "table.extxyz").table.properties["x"].tolist() == [1.5]


def test_columns_are_named_only_where_there_are_any(tmp_path):
    ase_write(tmp_path / "table.extxyz", [atoms_of(SKEWED, "a", 1.0)])
    write_folder(tmp_path)
    with pytest.raises(ValueError, match=r"no frame of .* by 'name'; keys of its frames: material_id, y, comment"):
        read_table(tmp_path / "table.extxyz", id_column="name")
    assert read_table(tmp_path / "table.extxyz", id_column="comment").table.ids.tolist() == ["made by hand"]
    for path in (tmp_path, tmp_path / "a.cif", tmp_path / "table.extxyz"):
        with pytest.raises(ValueError, match=r"has no column 'x': .*; leave structure_column out"):
            read_table(path, structure_column="x")
    for path in (tmp_path, tmp_path / "a.cif"):
        with pytest.raises(ValueError, match=r"has no column 'x': .*; leave id_column out"):
            read_table(path, id_column="x")


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0c"])
def test_a_comment_of_extxyz_may_hold_what_ends_lines_elsewhere(tmp_path, character):
    ase_write(tmp_path / "table.extxyz", [atoms_of(s, i, y) for i, s, y in zip(IDS, STRUCTURES, VALUES, strict=True)])
    text = (tmp_path / "table.extxyz").read_text().replace("by hand", f"by{character}hand")
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "table.extxyz").write_text(text.replace("\n", end), encoding="utf-8", newline="")
        assert_read(read_table(tmp_path / "table.extxyz"))


def test_a_number_of_extxyz_with_an_underscore_is_text(tmp_path):
    path = tmp_path / "table.extxyz"
    ase_write(path, [atoms_of(SKEWED, i, y) for i, y in zip(IDS, VALUES, strict=True)])
    path.write_text(path.read_text().replace("y=1.5", "y=1_5"))
    loaded = read_table(path)
    assert loaded.not_numbers["y"] == {0: "1_5"}
    assert loaded.table.properties["y"].tolist()[1:] == VALUES[1:]


def test_extxyz_energies_are_properties(tmp_path):
    atoms = atoms_of(CAESIUM_CHLORIDE, "a", 1.0)
    atoms.calc = SinglePointCalculator(atoms, energy=-7.5, forces=np.zeros((2, 3)))
    ase_write(tmp_path / "table.xyz", atoms, format="extxyz")
    assert set(read_table(tmp_path / "table.xyz").table.properties) == {"energy", "y"}


def test_a_bad_frame_does_not_spoil_the_others(tmp_path):
    path = tmp_path / "table.extxyz"
    frames = []
    for id, structure in zip(IDS, STRUCTURES, strict=True):
        ase_write(path, atoms_of(structure, id, 1.0), format="extxyz")
        frames.append(path.read_text())
    frames[1] = frames[1].replace('Lattice="4.12', 'Lattice="x')
    path.write_text("".join([*frames, "0\nempty\n", "1\nno cell\nH 0 0 0\n", frames[0], "two\n", frames[0]]))
    loaded = read_table(path)
    assert loaded.table.ids.tolist() == ["a", "c"]
    assert [bad.reason for bad in loaded.report.bad] == [
        Reason.UNREADABLE,
        Reason.EMPTY,
        Reason.CELL,
        Reason.DUPLICATE,
        Reason.UNREADABLE,
    ]


def write_folder(folder):
    for id, structure in zip(IDS, STRUCTURES, strict=True):
        (folder / f"{id}.cif").write_text(cif(structure))


def test_folder_with_table(tmp_path):
    write_folder(tmp_path)
    write_csv(tmp_path / "labels.csv", ["name", "y"], [[i, y] for i, y in zip(IDS, VALUES, strict=True)])
    assert_read(read_table(tmp_path))
    with pytest.raises(ValueError, match="no column 'nothing'"):
        read_table(tmp_path, id_column="nothing")
    shutil.copy(tmp_path / "labels.csv", tmp_path / "more.csv")
    with pytest.raises(ValueError, match="several CSV tables"):
        read_table(tmp_path)


def test_what_this_package_wrote_into_a_folder_is_not_its_table(tmp_path, caplog):
    write_folder(tmp_path)
    for name in ("predictions.csv", "predictions_skipped.csv", "skipped_rows.csv", "validation_predictions.csv"):
        (tmp_path / name).write_text("id,prediction\na,1.0\n")
    assert read_table(tmp_path).table.ids.tolist() == IDS
    write_csv(tmp_path / "labels.csv", ["name", "y"], [[i, y] for i, y in zip(IDS, VALUES, strict=True)])
    assert_read(read_table(tmp_path))
    assert not caplog.text


def test_decimals_of_databases_are_numbers_and_a_column_stands_once(tmp_path):
    rows = [{**row, "y": Decimal(str(row["y"]))} for row in records()]
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    assert_read(read_table(tmp_path / "table.parquet"))
    frame = pd.DataFrame(records())
    table = pa.table([frame[name] for name in ("structure", "y", "y")], names=["structure", "y", "y"])
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="has the column 'y' twice: give each column a name of its own"):
        read_table(tmp_path / "twice.parquet")


def test_structure_files_that_the_table_of_a_folder_does_not_name_are_told(tmp_path, caplog):
    write_folder(tmp_path)
    (tmp_path / "d.cif").write_text(cif(SKEWED))
    path = write_csv(tmp_path / "labels.csv", ["name", "y"], [["a", 1], ["b.cif", 2]])
    assert read_table(tmp_path).table.ids.tolist() == ["a", "b.cif"]
    assert f"2 of 4 structure files are not used: {path} does not name them, for example c.cif" in caplog.text


@pytest.mark.parametrize("table", ["labels.CSV", "labels.csv.gz", "id_prop.csv.gz"])
def test_a_folder_may_be_packed_and_write_suffixes_in_capitals(tmp_path, table, caplog):
    for id, structure in zip(IDS[:2], STRUCTURES, strict=False):
        (tmp_path / f"{id}.cif.gz").write_bytes(gzip.compress(cif(structure).encode()))
    (tmp_path / "c.CIF").write_text(cif(SKEWED))
    assert read_table(tmp_path).table.ids.tolist() == IDS
    assert read_table(tmp_path / "a.cif.gz").table.ids.tolist() == ["a"]
    named = pd.DataFrame({"id": IDS, "y": VALUES}).to_csv(index=False).encode()
    (tmp_path / table).write_bytes(gzip.compress(named) if table.endswith(".gz") else named)
    assert_read(read_table(tmp_path))
    assert not caplog.text


def test_a_column_may_write_the_suffix_in_other_letters_than_the_file(tmp_path):
    (tmp_path / "a.CIF").write_text(cif(SKEWED))
    (tmp_path / "b.vasp").write_text(poscar(SKEWED))
    (tmp_path / "c.cif.gz").write_bytes(gzip.compress(cif(SKEWED).encode())[:-20])
    path = write_csv(
        tmp_path / "table.csv", ["id", "file", "y"], [["a", "a.cif", 1], ["b", "b.VASP", 2], ["c", "c.cif.gz", 3]]
    )
    loaded = read_table(path)
    assert loaded.table.ids.tolist() == ["a", "b"]
    assert "c.cif.gz cannot be read: Compressed file ended" in loaded.report.bad[0].detail


def test_folder_of_cgcnn(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "id_prop.csv").write_text("".join(f"{i},{y}\n" for i, y in zip(IDS, VALUES, strict=True)))
    assert_read(read_table(tmp_path), "target")
    (tmp_path / "id_prop.csv").write_text("id,y\n" + (tmp_path / "id_prop.csv").read_text())
    assert_read(read_table(tmp_path))


def test_folder_without_table(tmp_path):
    write_folder(tmp_path)
    loaded = read_table(tmp_path)
    assert loaded.table.ids.tolist() == IDS
    assert loaded.default_target is None
    with pytest.raises(ValueError, match=r"numeric properties: none .*are columns of a CSV table in it"):
        loaded.choose_target("gap")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="neither a CSV table nor structure files"):
        read_table(empty)


def test_crystals_below_a_folder_are_pointed_at(tmp_path):
    (tmp_path / "samples" / "cif").mkdir(parents=True)
    (tmp_path / "samples" / "cif" / "a.cif").write_text(cif(SKEWED))
    for name in ("samples.extxyz", "samples.parquet"):
        (tmp_path / "samples" / name).touch()
    with pytest.raises(ValueError, match=r"; did you mean \S*samples/cif or \S*samples/samples\.extxyz\?$"):
        read_table(tmp_path / "samples")


def test_files_as_vasp_calls_them(tmp_path):
    names = ["CONTCAR", "POSCAR", "POSCAR.Si", "POSCAR_mp-1", "POSCAR_mp-2.vasp"]
    for name in names:
        (tmp_path / name).write_text(poscar(SKEWED))
        assert read_table(tmp_path / name).table.num_atoms.tolist() == [3]
    (tmp_path / "POSCARS").mkdir()
    ids = ["CONTCAR", "POSCAR", "POSCAR.Si", "POSCAR_mp-1", "POSCAR_mp-2"]
    assert read_table(tmp_path).table.ids.tolist() == ids
    write_csv(tmp_path / "POSCAR_labels.csv", ["name", "y"], [[id, y] for y, id in enumerate(ids)])
    assert read_table(tmp_path).table.properties["y"].tolist() == [0, 1, 2, 3, 4]
    rows = [["POSCAR", "POSCAR_mp-1", 1], ["POSCAR", "cifs/POSCAR_mp-3", 2]]
    loaded = read_table(write_csv(tmp_path / "table.csv", ["format", "file", "y"], rows))
    assert loaded.source_rows.tolist() == [0]
    assert loaded.report.bad[0].detail == "no file cifs/POSCAR_mp-3 in the folder of the table"


def test_a_column_with_the_word_poscar_holds_no_structures(tmp_path):
    path = write_csv(tmp_path / "table.csv", ["POSCAR", "geometry", "y"], [["POSCAR", cif(SKEWED), 1]])
    assert read_table(path).table.num_atoms.tolist() == [3]


def test_files_are_followed_only_inside_the_folder(tmp_path):
    folder = tmp_path / "project"
    (folder / "cifs").mkdir(parents=True)
    for place in (tmp_path, folder / "cifs"):
        (place / "x.cif").write_text(cif(CAESIUM_CHLORIDE))
    (folder / "link.cif").symlink_to(tmp_path / "x.cif")
    cells = [
        "cifs/x.cif",
        "../x.cif",
        str(tmp_path / "x.cif"),
        "link.cif",
        "missing.cif",
        "a" * 5000 + ".cif",
        "\0.cif",
    ]
    path = write_csv(folder / "table.csv", ["file", "y"], [[cell, 1] for cell in cells])
    loaded = read_table(path)
    assert loaded.source_rows.tolist() == [0]
    details = [bad.detail for bad in loaded.report.bad]
    assert all("outside the folder" in detail for detail in details[:3])
    assert "no file missing.cif" in details[3]
    assert {bad.reason for bad in loaded.report.bad} == {Reason.UNREADABLE}


def test_columns_can_be_named(tmp_path, caplog):
    rows = [
        {"before": cif(ROCK_SALT), "after": cif(s), "label": i, "y": 1.0} for i, s in zip(IDS, STRUCTURES, strict=True)
    ]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows))
    loaded = read_table(path, structure_column="after", id_column="label")
    assert loaded.table.ids.tolist() == IDS
    assert loaded.table.num_atoms.tolist() == [len(s) for s in STRUCTURES]
    assert not caplog.text
    numbered = read_table(path)
    assert "['before', 'after'] hold structures, before is used; structure_column names another" in caplog.text
    assert numbered.table.ids.tolist() == ["row-0", "row-1", "row-2"]
    assert numbered.table.num_atoms.tolist() == [8, 8, 8]
    for option in ({"structure_column": "x"}, {"id_column": "x"}):
        with pytest.raises(ValueError, match="no column 'x'; its columns: before, after, label, y"):
            read_table(path, **option)


def test_which_columns_are_properties(tmp_path):
    header = ["id", "structure", "number", "truth", "some missing", "mostly text", "formula", "idx", "some text"]
    cells = [
        ["1", cif(CAESIUM_CHLORIDE), "1e-3", "True", "", "5", "NaN", "0", "1"],
        ["2", cif(CAESIUM_CHLORIDE), "2", "False", "4.5", "high", "CsCl", "1", "2"],
        ["3", cif(CAESIUM_CHLORIDE), " 3 ", "true", "n/a", "low", "InF", "2", "1_5"],
    ]
    loaded = read_table(write_csv(tmp_path / "table.csv", header, cells))
    assert set(loaded.table.properties) == {"number", "truth", "some missing", "some text"}
    assert loaded.table.properties["number"].tolist() == [0.001, 2, 3]
    assert loaded.table.properties["truth"].tolist() == [1, 0, 1]
    assert loaded.default_target is None
    usable = usable_rows(loaded, required=["some missing", "some text"])
    assert usable.source_rows.tolist() == [1]
    assert [(bad.row, bad.reason) for bad in usable_rows(loaded, required=["some text"]).report.bad] == [
        (2, Reason.NOT_A_NUMBER)
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1.5", "102.8 GPa", "7 GPa"], "column 'K/GPa' of .* text in 2 of 3 rows, for example row 1: '102.8 GPa';"),
        (["102,8", "7,1", "3,2"], "holds text in 3 of 3 rows, for example row 0: '102,8'; write numbers without unit"),
        (["1.5", "not\nmeasured", "n.d."], "row 1: 'not measured'; .* leave unknown values empty"),
        (["", "nan", ""], "column 'K/GPa' of .* holds no number in any of 3 rows"),
    ],
)
def test_a_target_of_text_is_refused_with_an_example(tmp_path, values, message):
    rows = [[cif(s), value] for s, value in zip(STRUCTURES, values, strict=True)]
    loaded = read_table(write_csv(tmp_path / "table.csv", ["structure", "K/GPa"], rows))
    with pytest.raises(ValueError, match=message):
        loaded.choose_target("K/GPa")
    with pytest.raises(ValueError, match=r"no numeric property 'k/gpa'; .*: none; did you mean 'K/GPa'\?$"):
        loaded.choose_target("k/gpa")


def test_good_rows_survive_bad_ones(tmp_path):
    """Empty structure, NaN target, disordered CIF, duplicate id, 2,000 atoms, text as target, ragged row, a path."""
    good = cif(CAESIUM_CHLORIDE)
    large = cif(large_cell(10))
    rows = [
        ["good-1", good, "1.0"],
        ["empty", "", "1.0"],
        ["nan", good, "nan"],
        ["disordered", cif(DISORDERED), "1.0"],
        ["good-1", good, "2.0"],
        ["large", large, "1.0"],
        ["text", good, "about one"],
        ["ragged", good],
        ["path", "/etc/passwd", "1.0"],
        ["good-2", cif(SKEWED), "3.0"],
    ]
    loaded = read_table(write_csv(tmp_path / "table.csv", ["id", "structure", "y"], rows))
    usable = usable_rows(loaded, required=["y"], max_sites=64)
    assert usable.table.ids.tolist() == ["good-1", "good-2"]
    assert usable.table.properties["y"].tolist() == [1.0, 3.0]
    assert usable.source_rows.tolist() == [0, 9]
    assert {bad.id + f"@{bad.row}": bad.reason for bad in usable.report.bad} == {
        "empty@1": Reason.EMPTY,
        "nan@2": Reason.MISSING,
        "disordered@3": Reason.DISORDERED,
        "good-1@4": Reason.DUPLICATE,
        "large@5": Reason.TOO_MANY_SITES,
        "text@6": Reason.NOT_A_NUMBER,
        "ragged@7": Reason.UNREADABLE,
        "path@8": Reason.UNREADABLE,
    }
    assert "2 of 10 rows used, 8 skipped" in usable.report.summary()
    assert "2000 sites, max_sites is 64" in usable.report.summary()


def test_each_number_is_tried_once_where_many_rows_have_one_id(monkeypatch):
    tried = []
    monkeypatch.setattr("matwheel.data.records.count", lambda start: map(lambda n: tried.append(n) or n, count(start)))
    ids = with_distinct_ids(Records([None] * 100, ["a", "a#3", *["a"] * 97, ""])).ids
    assert ids[:5] == ["a", "a#3", "a#2", "a#4", "a#5"]
    assert (len(set(ids)), ids[-1]) == (100, "")
    assert len(tried) == 98


def test_all_bad_is_an_error(tmp_path):
    path = write_csv(
        tmp_path / "table.csv", ["structure", "y"], [["", 1], ["nonsense", 2], [cif(DISORDERED), 3], ["", 4]]
    )
    with pytest.raises(
        ValueError, match=r"no usable row in .*table\.csv: 2 of 4 rows have the reason 'empty structure'"
    ):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.csv", b"", "has no rows"),
        ("table.csv", b"id,structure\n", "has no rows"),
        ("table.csv", b"id,y\na,1\n", "no column of .* holds structures"),
        ("table.csv", b"y,y\n1,1\n", "column name twice, 'y': the first line must name"),
        ("table.csv", f'a,1.5,1.5,"{cif(SKEWED)}"\n'.encode(), r"first line of .* holds the structure '.{1,40}'$"),
        ("table.csv", b"a.cif,1.5\nb.cif,2.5\n", "first line of .* must name the columns; .* 'a.cif'"),
        ("table.csv", b"id;structure;y\na;x;1,5\n", "are separated by ';': save it with commas"),
        ("table.csv", b"id;structure;K, GPa\na;x;1,5\n", r"sep=';', decimal=','\).to_csv"),
        ("table.csv", b"sep=;\nid;structure;y\n", "are separated by ';': save it with commas"),
        ("table.csv", b"id\tstructure\ty\na\tx\t1.5\n", "are separated by tabs: save it with commas"),
        ("table.csv", "id,structure\na,x\n".encode("utf-16"), r"cannot be read as text.*\. Save it as UTF-8$"),
        ("table.csv", b"\xff\xfe\x00", "cannot be read as text"),
        ("table.csv.gz", b"not compressed", "cannot be read as text"),
        ("table.csv.gz", gzip.compress(b"id,structure", mtime=0)[:12] + bytes(20), "cannot be read as text"),
        ("table.json", b"{", "is not JSON"),
        ("table.json", b"[" * 100_000, "is not JSON"),
        ("table.json", b"3", "list of records or columns"),
        ("table.json", b'{"a": [1], "b": [1, 2]}', "columns of equal length"),
        ("table.json", b"[]", "has no rows"),
        ("table.json", b'{"records": [{"cif": "x"}], "targets": "y"}', "'targets' in"),
        ("table.jsonl", b"\n", "has no rows"),
        ("table.parquet", b"PAR1", "not a Parquet table"),
        ("table.extxyz", b"", "has no rows"),
        ("table.pkl", b"", "the formats are"),
    ],
)
def test_unreadable_tables_are_errors_for_people(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name)


def test_missing_table(tmp_path):
    with pytest.raises(ValueError, match=r"no such table: \S*none\.csv$"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "new_crystals.csv").touch()
    with pytest.raises(ValueError, match=r"no such table: \S*new_crystal\.csv; did you mean '\S*new_crystals\.csv'\?$"):
        read_table(tmp_path / "new_crystal.csv")


def test_wide_cells_are_read_and_the_limit_of_the_csv_module_is_kept(tmp_path):
    limit = csv.field_size_limit()
    text = cif(CAESIUM_CHLORIDE)
    path = write_csv(
        tmp_path / "table.csv", ["structure", "y"], [[text + "#" * 200_000, 1], [text + "#" * 3_000_000, 1]]
    )
    loaded = read_table(path)
    assert len(loaded) == 1
    assert "characters in one structure" in loaded.report.bad[0].detail
    assert csv.field_size_limit() == limit


def test_cdvae_tables(shared_data):
    loaded = read_table(shared_data / "mp_20" / "train_partial.csv.gz")
    assert len(loaded) == 2573
    assert len(loaded.report) == 0
    assert {"formation_energy_per_atom", "band_gap", "e_above_hull"} <= set(loaded.table.properties)
    assert loaded.table.num_atoms.max() == 20


CELLS = st.one_of(
    st.sampled_from(
        [cif(CAESIUM_CHLORIDE), poscar(SKEWED), as_json(SKEWED), cif(DISORDERED), "", "nan", "1e999", "-0", "x.cif"]
    ),
    st.sampled_from(["../../etc/passwd", "../x.cif", "9" * 400, "\0", "1_0", '"', "a\nb", "True", "\ufeff", "=cmd()"]),
    st.text(max_size=8),
    st.floats().map(str),
)
FUZZ = settings(max_examples=60, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(path) -> None:
    """Bad content ends in a `ValueError` or in skipped rows; the crystals that remain are accounted for."""
    with contextlib.suppress(ValueError):
        loaded = read_table(path)
        assert 1 <= len(loaded) == loaded.report.total - len(loaded.report)
        assert len(set(loaded.table.ids.tolist())) == len(loaded)
        loaded.report.summary().encode()
        for property in loaded.table.properties:
            with contextlib.suppress(ValueError):
                assert np.isfinite(usable_rows(loaded, [property]).table.properties[property]).all()
        loaded.table.save(path.with_suffix(".npz"))
        loaded.report.to_csv(path.with_suffix(".report"))


@FUZZ
@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_any_csv_cells(tmp_path, rows):
    read_or_refuse(write_csv(tmp_path / "table.csv", ["id", "structure", "y"], rows))


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(["csv", "json", "jsonl", "parquet", "extxyz", "json.gz"]))
def test_any_bytes(tmp_path, content, suffix):
    path = tmp_path / f"table.{suffix}"
    path.write_bytes(content)
    read_or_refuse(path)


@FUZZ
@given(
    st.recursive(
        CELLS | st.none() | st.floats() | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["records", "targets", "id", "structure", "y", "lattice", "species", "frac_coords"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content))
    read_or_refuse(path)


@FUZZ
@given(st.data())
def test_damaged_extxyz(tmp_path, data):
    path = tmp_path / "table.extxyz"
    ase_write(path, [atoms_of(s, i, 1.0) for i, s in zip(IDS, STRUCTURES, strict=True)])
    text = path.read_text()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        text = text[:start] + data.draw(CELLS) + text[start + data.draw(st.integers(0, 40)) :]
    path.write_text(text, encoding="utf-8", errors="replace")
    read_or_refuse(path)


@FUZZ
@given(st.data())
def test_damaged_parquet(tmp_path, data):
    path = tmp_path / "table.parquet"
    pd.DataFrame(records()).to_parquet(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 8]))])
    read_or_refuse(path)


ABSURD = st.sampled_from(
    [
        "1e308",
        "-1e308",
        "1e-308",
        "0",
        "-0.0",
        "nan",
        "inf",
        "1_000",
        "9" * 400,
        "\0",
        "Qq",
        "Fm3",
        "\u00c5",
        "\U0001f48e",
    ]
) | st.floats().map(str)


@settings(max_examples=100, deadline=10_000)
@given(st.data())
def test_real_cifs_with_absurd_numbers_and_species(real_cifs, data):
    """Words of a real file replaced one by one: what is read can be made a graph of in no time."""
    words = re.split(r"(\s+)", data.draw(st.sampled_from(real_cifs)))
    for _ in range(data.draw(st.integers(1, 4))):
        words[2 * data.draw(st.integers(0, len(words) // 2 - 1))] = data.draw(ABSURD)
    with contextlib.suppress(BadStructureError):
        crystal = parse_structure("".join(words), "a")
        CrystalGraphs.build(niggli_reduce(CrystalTable.from_crystals([crystal])))


@settings(max_examples=100, deadline=10_000)
@given(st.lists(st.floats(0.5, 500) | st.sampled_from([1e308, 1e-308]), min_size=3, max_size=3), st.data())
def test_cells_of_any_shape_take_no_time(lengths, data):
    angles = data.draw(st.lists(st.floats(0, 180), min_size=3, max_size=3))
    lattice = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), [*lengths, *angles], strict=True))
    with contextlib.suppress(BadStructureError):
        crystal = parse_structure({"lattice": lattice, "species": ["Na"], "frac_coords": [[0, 0, 0]]}, "a")
        CrystalGraphs.build(niggli_reduce(CrystalTable.from_crystals([crystal])))


def test_a_cell_so_skewed_that_it_has_a_hundred_million_images_is_refused_at_once():
    lattice = [[500, 0, 0], [499.999, 0.01, 0], [0, 300, 1]]
    with pytest.raises(BadStructureError, match=r"so skewed that its planes are .* A apart: give the reduced cell"):
        parse_structure({"lattice": lattice, "species": ["Na"], "frac_coords": [[0, 0, 0]]}, "a")
