from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from matwheel.data.inputs import read_structures
from matwheel.data.rows import Reason
from tests.data.samples import CAESIUM_CHLORIDE, as_json, cif, poscar

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_everything_that_holds_crystals_goes_into_one_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / "a.cif").write_text(cif(CAESIUM_CHLORIDE))
    atoms = bulk("Cu")
    atoms.info["id"] = "copper"
    loaded = read_structures([tmp_path / "a.cif", SALT, atoms, str(tmp_path / "a.cif"), tmp_path])
    assert loaded.table.ids.tolist() == ["a", "row-1", "copper", "a#2", "a#3"]
    assert "rows with the id of an earlier one get another: 2, such as a#2" in caplog.text
    file = str(tmp_path / "a.cif")
    assert list(loaded.files) == [file, "", "", file, str(tmp_path)]
    assert loaded.table.num_atoms.tolist() == [2, 8, 1, 2, 2]
    np.testing.assert_allclose(loaded.table.lattices[2], atoms.cell.array)
    assert not loaded.report.bad


def test_a_column_is_that_of_the_inputs_that_have_columns(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(cif(CAESIUM_CHLORIDE))
    table = tmp_path / "two.csv"
    pd.DataFrame({"cif": [cif(CAESIUM_CHLORIDE)], "relaxed": [cif(SALT)], "Material": ["b"]}).to_csv(table, index=False)
    columns = {"structure_column": "relaxed", "id_column": "Material"}
    loaded = read_structures([table, tmp_path / "a.cif", SALT], **columns)
    assert loaded.table.ids.tolist() == ["b", "a", "row-2"]
    assert loaded.table.num_atoms.tolist() == [8, 2, 8]
    for alone in (tmp_path / "a.cif", [tmp_path / "a.cif", SALT]):
        with pytest.raises(ValueError, match=r"a.cif has no column 'relaxed': it is one structure"):
            read_structures(alone, **columns)


def test_a_single_one_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(cif(CAESIUM_CHLORIDE))
    for given in (SALT, bulk("Cu"), tmp_path / "a.cif", str(tmp_path / "a.cif")):
        assert len(read_structures(given)) == 1


def several() -> list[Structure | Atoms]:
    return [SALT, bulk("Cu")]


def as_array() -> NDArray[np.object_]:
    array = np.empty(2, dtype=object)
    array[:] = several()
    return array


@pytest.mark.parametrize("given", [tuple(several()), pd.Series(several()), as_array(), iter(several())], ids=type)
def test_several_may_come_in_anything_that_lists_them(given: Iterable[Structure | Atoms]) -> None:
    assert read_structures(given).table.num_atoms.tolist() == [8, 1]


def test_a_column_of_a_frame_may_have_holes() -> None:
    loaded = read_structures(pd.Series([None, SALT, float("nan")], dtype=object))
    assert loaded.source_rows.tolist() == [1]
    assert loaded.report.counts() == {Reason.EMPTY: 2}


def test_a_whole_frame_is_refused_with_the_mend() -> None:
    with pytest.raises(ValueError, match=r"data frame \(columns s, y\) .* such as frame\['structure'\]"):
        read_structures(pd.DataFrame({"s": [SALT], "y": [1.0]}))


@pytest.mark.parametrize("write", [cif, poscar, as_json, Structure.as_dict])
def test_the_text_of_a_structure_is_no_path(write: Callable[[Structure], str]) -> None:
    for given in (write(SALT), [write(SALT)]):
        loaded = read_structures(given)
        assert loaded.name == "1 inputs"
        assert loaded.table.num_atoms.tolist() == [8]
    with pytest.raises(ValueError, match="neither a CIF nor a POSCAR"):
        read_structures("salt\n1.0\n" + "x" * 500)


def test_what_cannot_be_used_is_reported_and_the_rest_kept() -> None:
    no_cell, disordered = Atoms("H"), SALT.copy()
    disordered.replace(0, {"Na": 0.5, "K": 0.5})
    loaded = read_structures([no_cell, SALT, disordered, 3.5])
    assert loaded.table.ids.tolist() == ["row-1"]
    assert [bad.row for bad in loaded.report.bad] == [0, 2, 3]
    assert "no lattice" in loaded.report.bad[0].detail


def test_a_number_given_to_a_row_is_not_the_id_of_another() -> None:
    named = [bulk("Cu"), bulk("Ag"), bulk("Au"), bulk("Fe")]
    named[0].info["id"], named[3].info["id"] = "row-1", "row-2"
    loaded = read_structures(named)
    assert loaded.table.ids.tolist() == ["row-1", "row-1#2", "row-2#2", "row-2"]


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no structures were given"):
        read_structures([])
    with pytest.raises(ValueError, match=r"no such table: .*none\.cif"):
        read_structures(tmp_path / "none.cif")
    with pytest.raises(ValueError, match="no usable row in 2 inputs"):
        read_structures([Atoms("H"), Atoms()])
