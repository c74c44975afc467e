"""Data sets by name, and the one door through which crystals come in: `load`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from matwheel.data.crystal import CrystalTable
from matwheel.data.records import Records, load_records
from matwheel.data.rows import LoadedTable, RowReport
from matwheel.data.tables import read_table
from matwheel.files import similar_file

DATA_DIR_VARIABLE = "MATWHEEL_DATA"
EMBEDDED_DIR = Path(__file__).parent / "embedded"
LOCAL_SUFFIX = ".json.gz"
JARVIS = "jarvis_2d_exfoliation"
MATMINER_JARVIS = "jarvis_dft_2d"

_MATERIALS_PROJECT = "data: Materials Project (CC BY 4.0); collected in matminer 0.4.0 (modified BSD licence)"


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set.

    Attributes:
        description: One line.
        units: Unit of each property; the first property is the default target.
        citation: The work to cite.
        licence: Terms of use.
        embedded: Whether it is part of the package.
    """

    description: str
    units: Mapping[str, str]
    citation: str
    licence: str
    embedded: bool = True

    @property
    def targets(self) -> tuple[str, ...]:
        """Properties the data set offers."""
        return tuple(self.units)

    @property
    def default_target(self) -> str:
        """Property to predict when the user names none."""
        return self.targets[0]


DATASETS: dict[str, DatasetInfo] = {
    "mp_poly_total": DatasetInfo(
        description="1,056 inorganic compounds with their static polycrystalline dielectric constant (DFPT)",
        units={
            "poly_total": "dimensionless",
            "poly_electronic": "dimensionless",
            "n": "dimensionless",
            "band_gap": "eV",
            "pot_ferroelectric": "0 or 1",
        },
        citation="Petousis et al., Sci. Data 4, 160134 (2017)",
        licence=_MATERIALS_PROJECT,
    ),
    "elastic_tensor_2015": DatasetInfo(
        description="1,181 inorganic compounds with elastic moduli (DFT)",
        units={
            "K_VRH": "GPa",
            "G_VRH": "GPa",
            "poisson_ratio": "dimensionless",
            "elastic_anisotropy": "dimensionless",
            "K_Reuss": "GPa",
            "K_Voigt": "GPa",
            "G_Reuss": "GPa",
            "G_Voigt": "GPa",
        },
        citation="de Jong et al., Sci. Data 2, 150009 (2015)",
        licence=_MATERIALS_PROJECT,
    ),
    "piezoelectric_tensor": DatasetInfo(
        description="941 inorganic compounds with their largest longitudinal piezoelectric modulus (DFPT)",
        units={"eij_max": "C/m^2"},
        citation="de Jong et al., Sci. Data 2, 150053 (2015)",
        licence=_MATERIALS_PROJECT,
    ),
    "flla_2015": DatasetInfo(
        description="3,938 inorganic compounds with formation energy and energy above the convex hull (DFT)",
        units={"formation_energy_per_atom": "eV/atom", "e_above_hull": "eV/atom"},
        citation=("Faber et al., Int. J. Quantum Chem. 115, 1094 (2015); Jain et al., APL Mater. 1, 011002 (2013)"),
        licence=_MATERIALS_PROJECT,
    ),
    JARVIS: DatasetInfo(
        description="636 monolayers with vacuum along c and their exfoliation energy (OptB88vdW DFT)",
        units={"exfoliation_en": "meV/atom"},
        citation="Choudhary, Kalish, Beams, Tavazza, Sci. Rep. 7, 5179 (2017)",
        licence="JARVIS-DFT: NIST public data; fetched through matminer, not part of this package",
        embedded=False,
    ),
}


def load(
    dataset: str,
    data_dir: Path | None = None,
    structure_column: str | None = None,
    id_column: str | None = None,
    keep_repeated_ids: bool = False,
) -> LoadedTable:
    """Read a data set by name or a table by path.

    Args:
        dataset: A name of `DATASETS`, a file `NAME.json.gz` of the data folder as NAME, or the path of a table
            (see `matwheel.data.tables.read_table`).
        data_dir: Folder with further data sets; by default the environment variable MATWHEEL_DATA.
        structure_column: For tables: the column with the structures, found by itself by default.
        id_column: For tables: the column with unique names, found by itself by default.
        keep_repeated_ids: For tables: see `matwheel.data.tables.read_table`.

    Raises:
        ValueError: If there is no such data set, or it cannot be read, or no row of it is usable.
    """
    info = DATASETS.get(dataset)
    local = None if info is not None and info.embedded else _local_file(dataset, data_dir)
    if (info is not None or local is not None) and (structure_column is not None or id_column is not None):
        raise ValueError(f"structure_column and id_column are for tables of your own; '{dataset}' needs neither")
    if info is not None and info.embedded:
        return _load_embedded(dataset, info)
    if local is not None:
        loaded = read_table(local)
        report = replace(loaded.report, source=dataset)
        return replace(loaded, name=dataset, report=report, units=info.units if info is not None else {})
    if info is not None:
        return _load_jarvis(info)
    path = Path(dataset).expanduser()
    if path.exists():
        return replace(read_table(path, structure_column, id_column, keep_repeated_ids), own=True)
    raise ValueError(_unknown(dataset, data_dir))


def unit_of(dataset: str, target: str) -> str:
    """Unit of a property of a data set by name; empty where none is known."""
    return DATASETS[dataset].units.get(target, "") if dataset in DATASETS else ""


def data_folder(data_dir: Path | None) -> Path | None:
    """The folder with further data sets: the option, else the environment variable.

    Raises:
        ValueError: If a folder is named that does not exist.
    """
    named = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if data_dir is not None else f"the environment variable {DATA_DIR_VARIABLE}"
        raise ValueError(f"{origin} names {folder}, which is not a folder")
    return folder


def _local_file(dataset: str, data_dir: Path | None) -> Path | None:
    folder = data_folder(data_dir)
    if folder is None or Path(dataset).name != dataset:
        return None
    path = folder / f"{dataset}{LOCAL_SUFFIX}"
    return path if path.is_file() else None


def _load_embedded(name: str, info: DatasetInfo) -> LoadedTable:
    table = CrystalTable.load(EMBEDDED_DIR / f"{name}.npz")
    return LoadedTable(
        name=name,
        table=table,
        source_rows=np.arange(len(table)),
        report=RowReport(name, len(table)),
        default_target=info.default_target,
        units=info.units,
    )


def _load_jarvis(info: DatasetInfo) -> LoadedTable:
    from matminer.datasets import load_dataset

    try:
        frame = load_dataset(MATMINER_JARVIS)
    except (OSError, UserWarning, ValueError) as error:  # no network, no write permission, damaged download
        raise ValueError(
            f"'{JARVIS}' is not part of the package and matminer could not fetch it ({type(error).__name__}: "
            f"{str(error)[:200]}). Either run once with a network, so that matminer stores {MATMINER_JARVIS}.json.gz "
            "(in the folder of the environment variable MATMINER_DATA, if set; delete a damaged file there), or put "
            f"{JARVIS}{LOCAL_SUFFIX} into a folder and name that folder as data_dir or in the environment variable "
            f"{DATA_DIR_VARIABLE}."
        ) from error
    ids = [str(name) for name in frame["mpid" if frame["mpid"].is_unique else "jid"]]
    columns = {name: frame[name].tolist() for name in info.targets}
    records = Records(frame["structure"].tolist(), ids, columns, info.targets)
    return load_records(JARVIS, records, info.units)


def _unknown(dataset: str, data_dir: Path | None) -> str:
    folder = data_folder(data_dir)
    local = [] if folder is None else [p.name.removesuffix(LOCAL_SUFFIX) for p in folder.glob(f"*{LOCAL_SUFFIX}")]
    names = list(dict.fromkeys([*DATASETS, *sorted(local)]))
    close = next(iter(difflib.get_close_matches(dataset, names, n=1)), None) or similar_file(Path(dataset))
    hint = f"; did you mean '{close}'?" if close else "."
    return (
        f"there is no data set and no file or folder '{dataset}'{hint} Known data sets: {', '.join(names)}. "
        "The path of a table works too (CSV, JSON, Parquet, extended XYZ, or a folder of CIFs)."
    )
