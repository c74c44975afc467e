import contextlib
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from matwheel.data import cif as cif_reader
from matwheel.data.checks import BadStructureError
from matwheel.data.crystal import Crystal
from matwheel.data.rows import Reason
from matwheel.data.structures import looks_like_structure, parse_structure
from tests.data.samples import CAESIUM_CHLORIDE, DISORDERED, ROCK_SALT, SKEWED, as_json, cif, poscar

STRUCTURES = [ROCK_SALT, CAESIUM_CHLORIDE, SKEWED]


def assert_same(crystal: Crystal, structure: Structure) -> None:
    assert crystal.atomic_numbers.tolist() == [site.specie.Z for site in structure]
    np.testing.assert_allclose(crystal.to_structure().lattice.parameters, structure.lattice.parameters, rtol=1e-6)
    np.testing.assert_allclose(crystal.to_structure().distance_matrix, structure.distance_matrix, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    "write",
    [cif, poscar, as_json, Structure.as_dict, lambda s: repr(s.as_dict())],
    ids=["cif", "poscar", "json", "dict", "repr"],
)
def test_formats_give_the_structure(structure, write):
    assert looks_like_structure(write(structure))
    assert_same(parse_structure(write(structure), "a"), structure)


def test_plain_arrays():
    cell = {
        "lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
        "species": ["Cs", "Cl-"],
        "frac_coords": [[0, 0, 0], [1.5, 0.5, -0.5]],
    }
    crystal = parse_structure(cell, "a")
    assert crystal.atomic_numbers.tolist() == [55, 17]
    assert crystal.frac_coords[1].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_direct_cif_reader_agrees_with_pymatgen(structure):
    text = cif(structure)
    plain = cif_reader._parse_plain(text, "a")
    full = cif_reader._parse_any(text, "a")
    assert plain is not None
    np.testing.assert_allclose(plain.lattice, full.lattice, atol=1e-8)
    assert_same(plain, structure)
    assert sorted(plain.atomic_numbers) == sorted(full.atomic_numbers)


def test_cif_with_symmetry_is_expanded():
    text = str(CifWriter(ROCK_SALT, symprec=0.01))
    assert cif_reader._parse_plain(text, "a") is None
    assert sorted(parse_structure(text, "a").atomic_numbers) == [11] * 4 + [17] * 4


def test_cif_without_operations_in_another_space_group_is_expanded():
    operations = "loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n  1  'x, y, z'\n"
    text = cif(CAESIUM_CHLORIDE)
    assert operations in text
    text = (
        text.replace(operations, "").replace("'P 1'", "'P m -3 m'").replace("Tables_number   1", "Tables_number   221")
    )
    assert cif_reader._parse_plain(text, "a") is None
    assert len(parse_structure(text, "a").atomic_numbers) == 2


BROKEN = cif(SKEWED).replace("_cell_length_b", "_cell_length")


@pytest.mark.parametrize("first", [cif(SKEWED), cif(ROCK_SALT), str(CifWriter(ROCK_SALT, symprec=0.01)), BROKEN])
def test_a_cif_of_several_structures_is_refused(first):
    """Also where two have the same name, or pymatgen can read but one of them."""
    with pytest.raises(BadStructureError, match="the CIF holds 2 structures: give one file per crystal"):
        parse_structure(first + cif(SKEWED), "a")


def test_blocks_of_a_cif_without_sites_are_ignored():
    text = f"data_global\n_journal_year 2020\n{cif(SKEWED)}\ndata_end\n_journal_name 'A' # _atom_site_fract_x\n"
    assert_same(parse_structure(text, "a"), SKEWED)


def zirconia(group: str, occupancy: str = "1") -> str:
    """Three sites of ZrO2 in P 21/c, without operations."""
    cell = "_cell_length_a 5.15 _cell_length_b 5.21 _cell_length_c 5.32 _cell_angle_alpha 90 _cell_angle_beta 99.2"
    columns = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy"]
    sites = [f"Zr1 Zr .276 .041 .208 {occupancy}", "O1 O .07 .332 .345 1", f"O2 O .45 .757 .479 {occupancy}"]
    loop = ["loop_", *(f"_atom_site_{column}" for column in columns), *sites]
    return "\n".join(["data_ZrO2", *cell.replace(" _", "\n_").splitlines(), "_cell_angle_gamma 90", group, *loop, ""])


@pytest.mark.parametrize("group", ["_symmetry_space_group_name_H-M 'P21/c'", "_space_group_name_H-M_alt 'R -3 m H'"])
def test_a_space_group_that_is_not_known_is_not_taken_for_p1(group):
    with pytest.raises(BadStructureError, match=r"does not list the operations of its space group '.*: list the oper"):
        parse_structure(zirconia(group), "a")


@pytest.mark.parametrize("occupancy", ["1", ".", "?"])
@pytest.mark.parametrize(
    ("group", "atoms"),
    [
        ("_symmetry_space_group_name_H-M 'P 1 21/c 1'", 12),
        ("_symmetry_space_group_name_H-M 'P 1'", 3),
        ("_symmetry_space_group_name_H-M ?", 3),
        ("_symmetry_Int_Tables_number 1", 3),
        ("", 3),
    ],
)
def test_an_occupancy_that_is_left_out_is_one(group, atoms, occupancy):
    assert len(parse_structure(zirconia(group, occupancy), "a").atomic_numbers) == atoms


@pytest.mark.parametrize("group", ["_symmetry_space_group_name_H-M 'P 1 21/c 1'", "_symmetry_Int_Tables_number 1"])
def test_a_coordinate_that_is_left_out_is_refused(group):
    with pytest.raises(BadStructureError, match=r"site O2 has no coordinate: _atom_site_fract_z is '.'"):
        parse_structure(zirconia(group).replace(".479", "."), "a")


def test_species_with_charge_and_spin():
    species = {"species": ["Fe3+,spin=5", "O2-"], "lattice": (4 * np.eye(3)).tolist()}
    crystal = parse_structure({**species, "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}, "a")
    assert crystal.atomic_numbers.tolist() == [26, 8]


@pytest.mark.parametrize("title", ["", "2", "CsCl"])
@pytest.mark.parametrize("front", ["", "\n", "\n\n"])
def test_the_title_of_a_poscar_may_be_empty(title, front):
    text = front + "\n".join([title, *poscar(CAESIUM_CHLORIDE).splitlines()[1:]])
    assert looks_like_structure(text)
    assert_same(parse_structure(text, "a"), CAESIUM_CHLORIDE)


def test_poscar_variants():
    lattice = Lattice.orthorhombic(4, 5, 6)
    structure = Structure(lattice, ["Zn", "Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.4]])
    texts = [Poscar(structure).get_str(direct=False), Poscar(structure, selective_dynamics=[[True] * 3] * 3).get_str()]
    without_elements = poscar(structure).splitlines()
    assert without_elements[5] == "Zn S"
    texts.append("\n".join(without_elements[:5] + without_elements[6:]))  # labels follow the coordinates
    bare = [line.removesuffix(" Zn").removesuffix(" S") for line in without_elements[7:]]
    texts.append("\n".join(["Zn S", *without_elements[1:5], without_elements[6], *bare]))  # elements in the title
    volume = poscar(structure).splitlines()
    volume[1] = "-960.0"  # eight times the volume
    for text in texts:
        assert_same(parse_structure(text, "a"), structure)
    assert parse_structure("\n".join(volume), "a").volume == pytest.approx(960)


def test_selective_dynamics_flags_are_not_elements():
    text = "O F\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\nSelective dynamics\nDirect\n0 0 0 T T T\n0.5 0.5 0.5 F F F\n"
    assert parse_structure(text, "a").atomic_numbers.tolist() == [8, 9]


def replaced(old: str, new: str) -> str:
    text = cif(CAESIUM_CHLORIDE)
    assert old in text
    return text.replace(old, new)


BAD = {
    "nothing": ("", Reason.EMPTY),
    "missing": (None, Reason.EMPTY),
    "not a number": (float("nan"), Reason.EMPTY),
    "number": (7, Reason.UNREADABLE),
    "huge number": ("9" * 5000, Reason.UNREADABLE),
    "path": ("/etc/passwd", Reason.UNREADABLE),
    "prose": ("see the supplementary information", Reason.UNREADABLE),
    "no sites": (cif(CAESIUM_CHLORIDE).split("loop_\n _atom_site")[0], Reason.EMPTY),
    "no sites in dictionary": ({**CAESIUM_CHLORIDE.as_dict(), "sites": []}, Reason.EMPTY),
    "disordered cif": (cif(DISORDERED), Reason.DISORDERED),
    "disordered dictionary": (DISORDERED.as_dict(), Reason.DISORDERED),
    "disordered json": (as_json(DISORDERED), Reason.DISORDERED),
    "unknown element in dictionary": (
        {"lattice": np.eye(3).tolist(), "species": ["Lr"], "frac_coords": [[0, 0, 0]]},
        Reason.ELEMENT,
    ),
    "unknown element in poscar": (poscar(CAESIUM_CHLORIDE).replace("Cs Cl", "Qq Cl"), Reason.ELEMENT),
    "flat cell": (replaced("_cell_angle_alpha   90.00000000", "_cell_angle_alpha   200"), Reason.CELL),
    "tiny cell": (replaced("_cell_length_a   4.12000000", "_cell_length_a   0.412"), Reason.CELL),
    "vast cell": (replaced("_cell_length_a   4.12000000", "_cell_length_a   1e6"), Reason.CELL),
    "infinite cell": (replaced("_cell_length_a   4.12000000", "_cell_length_a   1e999"), Reason.CELL),
    "infinite coordinate": (replaced("0.50000000  0.50000000  0.50000000", "0.5 0.5 inf"), Reason.CELL),
    "overlap": (replaced("0.50000000  0.50000000  0.50000000", "0.01 0 0"), Reason.OVERLAP),
    "counts beyond the text": (poscar(CAESIUM_CHLORIDE).replace("1 1", "1 1000000000"), Reason.UNREADABLE),
    "huge integer": (
        '{"lattice": [[' + "9" * 400 + ',0,0],[0,4,0],[0,0,4]], "species": [], "frac_coords": []}',
        Reason.UNREADABLE,
    ),
    "deep json": ("{" + '"a":[' * 100_000, Reason.UNREADABLE),
    "foreign dictionary": ({"lattice": "cubic", "sites": "none"}, Reason.UNREADABLE),
    "json list": ("{'a', 'b'}", Reason.UNREADABLE),
    "too long": ("x" * 3_000_000, Reason.UNREADABLE),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_structures_have_a_reason(name):
    cell, reason = BAD[name]
    with pytest.raises(BadStructureError) as caught:
        parse_structure(cell, "a")
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 200


def test_cifs_that_would_take_minutes_are_refused_at_once():
    head, sites = str(CifWriter(ROCK_SALT, symprec=0.01)).split("_atom_site_occupancy\n")
    site = sites.splitlines()[0]
    text = head + "_atom_site_occupancy\n" + "\n".join(site.replace("Na0", f"Na{k}") for k in range(100))
    start = time.perf_counter()
    with pytest.raises(BadStructureError, match="19200 images of sites"):
        parse_structure(text, "a")
    with pytest.raises(BadStructureError, match="line of 500"):
        parse_structure(text + "\n_note " + "'" * 500_000, "a")
    assert time.perf_counter() - start < 10


def test_dictionaries_name_no_code():
    """pymatgen's decoder imports the module a property names; a structure must not run anything."""
    content = CAESIUM_CHLORIDE.as_dict()
    content["sites"][0]["properties"] = {"x": {"@module": "tests.data.no_such_module", "@class": "Boom"}}
    assert parse_structure(json.loads(json.dumps(content)), "a").num_atoms == 2


TEXTS = [
    cif(SKEWED),
    str(CifWriter(CAESIUM_CHLORIDE, symprec=0.01)),
    poscar(SKEWED),
    as_json(SKEWED),
    repr(SKEWED.as_dict()),
]
SHARDS = st.sampled_from(
    [
        *["", "\n", "nan", "-inf", "1e999", "9" * 400, "-1", "0", "'", '"', ";", "loop_", "data_", "../../etc/passwd"],
        *[
            "{",
            "]",
            "null",
            "true",
            "\x00",
            "\ud800",
            "é",
            "Xx",
            "?",
            ".",
            "1(2",
            "#",
            "1000000000",
            "__import__('os')",
        ],
        "_atom_site_occupancy 0.5",
    ]
)


def test_a_cif_whose_loop_of_sites_is_broken_is_read_or_refused():
    text = cif(SKEWED)
    broken = text.replace("om_site_symmetry_multiplicity\n", "")
    assert broken != text
    with contextlib.suppress(BadStructureError):
        parse_structure(broken, "a")


@settings(max_examples=150, deadline=10_000)
@given(st.data())
def test_damaged_text_is_read_or_refused(data):
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        text = (
            text[:start]
            + data.draw(st.one_of(SHARDS, st.text(max_size=5)))
            + text[start + data.draw(st.integers(0, 30)) :]
        )
    with contextlib.suppress(BadStructureError):
        crystal = parse_structure(text, "a")
        assert crystal.num_atoms >= 1
        assert np.isfinite(crystal.lattice).all()
        assert ((crystal.frac_coords >= 0) & (crystal.frac_coords < 1)).all()


@settings(max_examples=100, deadline=10_000)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["lattice", "matrix", "sites", "species", "abc", "xyz", "element", "occu", "frac_coords", "a"]
                ),
                inner,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_value_is_read_or_refused(value):
    for cell in (
        value,
        {"lattice": np.eye(3).tolist(), "sites": value},
        {"lattice": value, "species": ["H"], "frac_coords": value},
    ):
        with contextlib.suppress(BadStructureError):
            assert parse_structure(cell, "a").num_atoms >= 1
