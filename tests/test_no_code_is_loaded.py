"""Nothing a person gives to the program is executed: no pickle is ever loaded, wherever it hides."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import matwheel
from matwheel.data.crystal import CrystalTable
from matwheel.data.graphs import CrystalGraphs
from matwheel.data.tables import read_table
from matwheel.files import read_parquet
from matwheel.metrics.fingerprints import Fingerprints
from matwheel.metrics.generated import read_generated
from matwheel.metrics.pool import Pool
from matwheel.models.checkpoints import read_checkpoint
from tests.data.samples import CAESIUM_CHLORIDE, cif
from tests.metrics.crystals import rock_salt
from tests.models.toys import toy_crystals

SOURCES = sorted(Path(matwheel.__file__).parent.rglob("*.py"))
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "read_pickle", "unsafe_load", "full_load", "load_from_checkpoint"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in nodes]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_sources_load_no_pickle(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN & {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN
    for name, call in calls(path):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name.rpartition(".")[2] not in UNSAFE_CALLS or name.endswith((".eval",))
        if name == "torch.load":
            assert options["weights_only"] == "True"
        if name == "np.load":
            assert options["allow_pickle"] == "False"
        assert name != "yaml.load"


class Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Is there once the exploit has run."""
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.json", "t.json.gz", "t.jsonl", "t.parquet", "t.xyz", "t.pkl", "t.npz", "t.npy"]
)
def test_a_pickle_as_a_data_set(tmp_path: Path, ran: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Exploit(ran)))
    for read in (read_table, lambda path: read_generated(str(path))):
        with pytest.raises(ValueError, match=name):
            read(tmp_path / name)
    assert not ran.exists()


def test_code_in_cells(tmp_path: Path, ran: Path) -> None:
    expression = f"{{'lattice': __import__('pathlib').Path({str(ran)!r}).touch()}}"
    module = {"@module": "pathlib", "@class": "Path", "lattice": [[1]], "species": [str(ran)], "frac_coords": [[0]]}
    cells = [cif(CAESIUM_CHLORIDE), expression, "!!python/object/apply:os.system ['true']", str(module)]
    pd.DataFrame({"structure": cells}).to_csv(tmp_path / "t.csv", index=False)
    assert read_table(tmp_path / "t.csv").source_rows.tolist() == [0]
    assert not ran.exists()


def test_a_pickle_in_the_schema_of_a_parquet_table(tmp_path: Path, ran: Path) -> None:
    """Old versions of pyarrow loaded it (CVE-2023-47248)."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Exploit(ran)),
    }
    structure = pa.field("structure", pa.string(), metadata=metadata)
    table = pa.table([[cif(CAESIUM_CHLORIDE)]], schema=pa.schema([structure]))
    pq.write_table(table, tmp_path / "t.parquet")
    assert len(read_table(tmp_path / "t.parquet")) == 1
    read_parquet(tmp_path / "t.parquet")
    assert not ran.exists()


def test_a_pickle_in_arrays_of_a_run(tmp_path: Path, ran: Path) -> None:
    evil = np.array([Exploit(ran)], dtype=object)
    arrays = {**vars(toy_crystals()), "property_names": np.zeros(0, dtype=np.str_), "properties": evil}
    np.savez(tmp_path / "crystals.npz", **arrays)
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Exploit(ran)))
    for name in ("crystals.npz", "raw.npz"):
        with pytest.raises(ValueError, match="not a table of crystals that can be read"):
            CrystalTable.load(tmp_path / name)
    torch.save({"state_dict": {}, "x": Exploit(ran)}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="holds code, which is never run"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not ran.exists()


def test_a_pickle_in_the_caches(tmp_path: Path, ran: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = toy_crystals()
    CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    for file in next(tmp_path.glob("graphs-*")).iterdir():
        np.save(file, np.array([Exploit(ran)], dtype=object), allow_pickle=True)
    CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    salt = CrystalTable.from_crystals([rock_salt()])
    made = Fingerprints.cached(salt, Pool(processes=1), tmp_path)
    (cache,) = tmp_path.glob("fingerprints-*.npz")
    np.savez(cache, structure=np.array([Exploit(ran)], dtype=object), failures=np.array([""]))
    again = Fingerprints.cached(salt, Pool(processes=1), tmp_path)
    assert np.array_equal(again.structure, made.structure)
    assert "they are built again" in caplog.text
    assert "the fingerprints are computed again" in caplog.text
    assert not ran.exists()
    pickle.loads(pickle.dumps(Exploit(ran)))  # the exploit works where it is loaded
    assert ran.exists()
