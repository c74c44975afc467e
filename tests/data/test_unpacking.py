import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matwheel.data.checks import usable_rows
from matwheel.data.crystal import CrystalTable
from matwheel.data.rows import Reason
from matwheel.data.tables import read_table
from matwheel.data.unpacking import LIMIT_VARIABLE, unpacked_limit
from tests.data.samples import CAESIUM_CHLORIDE, cif
from tests.models.toys import toy_crystals


@pytest.fixture
def _a_megabyte(monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "0.001")


def test_the_limit_can_be_raised(tmp_path, monkeypatch):
    assert unpacked_limit() == 2_000_000_000
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(f'structure,y\n"{cif(CAESIUM_CHLORIDE)}",1\n'.encode() + b"\n" * 2_000_000))
    monkeypatch.setenv(LIMIT_VARIABLE, "0.001")
    with pytest.raises(ValueError, match=r"unpacks to more than 0.001 GB: if you trust it, raise .* MATWHEEL_MAX_UNPA"):
        read_table(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "0.01")
    assert len(read_table(path)) == 1
    for wrong in ("-1", "much", "nan", "inf"):
        monkeypatch.setenv(LIMIT_VARIABLE, wrong)
        with pytest.raises(ValueError, match="not a number of gigabytes"):
            unpacked_limit()


@pytest.mark.usefixtures("_a_megabyte")
@pytest.mark.parametrize("suffix", ["csv.gz", "json.gz", "jsonl.gz"])
def test_gzip_bombs_are_refused(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_table(path)


@pytest.mark.usefixtures("_a_megabyte")
def test_parquet_bombs_are_refused(tmp_path):
    """One large value, stored once, in many rows."""
    path = tmp_path / "table.parquet"
    text = pa.array([cif(CAESIUM_CHLORIDE) + "#" * 10_000] * 5_000)
    pq.write_table(pa.table({"structure": text}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_table(path)


@pytest.mark.usefixtures("_a_megabyte")
def test_bombs_of_arrays_are_refused(tmp_path):
    path = tmp_path / "crystals.npz"
    np.savez_compressed(path, frac_coords=np.zeros((1_000_000, 3)))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="unpacks to more than"):
        CrystalTable.load(path)


def test_an_archive_cannot_unpack_to_more_than_it_declares(tmp_path):
    path = tmp_path / "crystals.npz"
    toy_crystals().save(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = max(entry.file_size for entry in archive.infolist()).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (1).to_bytes(4, "little")))
    assert path.read_bytes() != content
    with pytest.raises(ValueError, match=r"crystals\.npz is not a table of crystals that can be read"):
        CrystalTable.load(path)


def test_damaged_and_foreign_arrays_are_refused(tmp_path):
    path = tmp_path / "crystals.npz"
    toy_crystals().save(path)
    content = path.read_bytes()
    for bad in (b"", content[:100], content[:-30], content[: len(content) // 2], b"PK\x03\x04", bytes(100)):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"crystals\.npz is not a table of crystals that can be read"):
            CrystalTable.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="not a table of crystals"):
        CrystalTable.load(path)
    arrays = {**vars(toy_crystals()), "properties": np.zeros((0, 8)), "property_names": np.zeros(0, dtype=np.str_)}
    np.savez(path, **{**arrays, "num_atoms": arrays["num_atoms"][:-1]})
    with pytest.raises(ValueError, match="do not add up"):
        CrystalTable.load(path)


def test_nested_and_huge_numbers_are_no_trap(tmp_path):
    path = tmp_path / "table.json"
    deep = json.dumps({"structure": cif(CAESIUM_CHLORIDE), "y": 1}).replace("1}", "[" * 50_000 + "]" * 50_000 + "}")
    path.write_text(f"[{deep}]")
    with pytest.raises(ValueError, match="is not JSON"):
        read_table(path)
    path.write_text(json.dumps([{"structure": cif(CAESIUM_CHLORIDE), "y": 10**400, "z": 1.5}]))
    assert set(read_table(path).table.properties) == {"z"}
    frame = pd.DataFrame({"structure": [cif(CAESIUM_CHLORIDE)] * 2, "y": [1e308, 1.0]})
    frame.to_parquet(tmp_path / "table.parquet")
    loaded = read_table(tmp_path / "table.parquet")
    assert loaded.table.properties["y"].tolist() == [1e308, 1.0]
    assert [bad.reason for bad in usable_rows(loaded, ["y"]).report.bad] == [Reason.RANGE]
