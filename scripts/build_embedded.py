"""Build the data sets of `matwheel/data/embedded` from the source distribution of matminer 0.4.0.

    python scripts/build_embedded.py                              # downloads the sdist with pip
    python scripts/build_embedded.py --sdist matminer-0.4.0.tar.gz

Rows keep the order of the CSV files, since published splits name rows by position. The output is the same, byte for
byte, on every run with the same versions of numpy and zlib.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

from matwheel.data.catalogue import DATASETS, EMBEDDED_DIR
from matwheel.data.records import Records, load_records

PACKAGE = "matminer-0.4.0"
SDIST_SHA256 = "1a6bdfb198b36d836bab4fbcdffb2dc4fda8a740c3dc08cbb21ea43b817fec86"
LICENCE_FILE = "LICENSE-matminer.txt"

# data set: CSV file, its SHA-256, column with the structures
SOURCES = {
    "mp_poly_total": (
        "dielectric_constant.csv",
        "ecbd410d33c95d5b05822cff6c7c0ba809a024b4ede3855ec5efc48d5e29ea77",
        "poscar",
    ),
    "elastic_tensor_2015": (
        "elastic_tensor.csv",
        "f7a18c91fe5dcd51012e5b7e3a37f73aaee9087a036d61bdf9d6464b6fca51a6",
        "poscar",
    ),
    "piezoelectric_tensor": (
        "piezoelectric_tensor.csv",
        "4be45c8df76a9600f789255ddcb05a92fc3807e0b96fd01e85713a58c34a2ae1",
        "poscar",
    ),
    "flla_2015": (
        "flla_2015.csv",
        "35b8dbc0b92f4dc7e219fd6606c3a27bee18a9618f376cfee1ff731e306210bb",
        "structure",
    ),
}


def main() -> None:
    """Write one `.npz` per data set, and the licence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", type=Path, help="matminer-0.4.0.tar.gz; downloaded by default")
    parser.add_argument("--out", type=Path, default=EMBEDDED_DIR, help="folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sdist = options.sdist or download(Path(folder))
        check_hash(sdist.name, sdist.read_bytes(), SDIST_SHA256)
        with tarfile.open(sdist) as archive:
            (options.out / LICENCE_FILE).write_bytes(read_member(archive, "LICENSE").rstrip() + b"\n")
            for name, (file, sha256, structure_column) in SOURCES.items():
                content = read_member(archive, f"matminer/datasets/{file}")
                check_hash(file, content, sha256)
                print(build(name, content, structure_column, options.out / f"{name}.npz"))


def download(folder: Path) -> Path:
    """Download the sdist; pip builds its metadata, with the installed setuptools where it cannot fetch another."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    requirement = PACKAGE.replace("-", "==")
    if subprocess.run([*command, requirement], check=False).returncode:
        subprocess.run([*command, "--no-build-isolation", requirement], check=True)
    return folder / f"{PACKAGE}.tar.gz"


def check_hash(name: str, content: bytes, expected: str) -> None:
    """Refuse content other than that the data sets were made from."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(f"{name} has the SHA-256 {found}, expected {expected}")


def read_member(archive: tarfile.TarFile, path: str) -> bytes:
    """Content of one file of the sdist."""
    file = archive.extractfile(f"{PACKAGE}/{path}")
    if file is None:
        raise ValueError(f"the sdist has no file {path}")
    return file.read()


def build(name: str, content: bytes, structure_column: str, path: Path) -> str:
    """Convert one CSV file, of which every row must be usable."""
    frame = pd.read_csv(io.BytesIO(content), comment="#", dtype=str)
    targets = DATASETS[name].targets
    records = Records(
        structures=frame[structure_column].tolist(),
        ids=frame["material_id"].tolist(),
        columns={target: frame[target].tolist() for target in targets},
        targets=targets,
    )
    loaded = load_records(name, records)
    if len(loaded.report) or tuple(loaded.table.properties) != targets:
        raise ValueError(loaded.report.summary())
    loaded.table.save(path)
    return f"{path}: {len(loaded)} crystals, {', '.join(targets)}, {path.stat().st_size / 1e3:.0f} kB"


if __name__ == "__main__":
    main()
