import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from matwheel.data.graphs import CrystalGraphs
from matwheel.files import (
    WriteError,
    clear_write_errors,
    read_json,
    read_parquet,
    remove_temporaries,
    replaced_when_complete,
    write_text_atomically,
)
from matwheel.flywheel.ledger import Ledger
from matwheel.flywheel.results import ResultRow, write_results
from matwheel.models.checkpoints import WholeCheckpoints
from tests.disk import files_up_to
from tests.models.toys import toy_crystals

ROW = ResultRow("d", "t", "full", "F", "CGCNN", "RandomSplit-0", 0, 1, 10, 0, 1.0, 1.0, 0.5, 1.0, 3.0)
REFUSED = r"cannot write .*{}: .*; free some space and run the same command again; what was finished before is kept"


def write_table(path: Path, count: int) -> None:
    with replaced_when_complete(path) as temporary:
        toy_crystals(count).save(temporary)


def write_parquet(path: Path, count: int) -> None:
    with replaced_when_complete(path) as temporary:
        pd.DataFrame({"x": np.random.default_rng(0).random(100 * count)}).to_parquet(temporary)


WRITERS = {
    "best.ckpt": lambda path, n: WholeCheckpoints().save_checkpoint({"state_dict": {"w": torch.rand(500 * n)}}, path),
    "0000000-0000007.npz": write_table,
    "results.csv": lambda path, n: write_results(path, [ROW] * n),
    "labels.parquet": write_parquet,
    "ledger.json": lambda path, n: write_text_atomically(path, "x" * 100 * n),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_earlier_file_kept(tmp_path: Path, name: str) -> None:
    path, write = tmp_path / name, WRITERS[name]
    write(path, 1)
    good = path.read_bytes()
    with pytest.raises(WriteError, match=REFUSED.format(name)), files_up_to(6_000):
        write(path, 200)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]
    write(path, 200)
    assert path.stat().st_size > 6_000


def test_only_a_write_that_was_cut_short_is_called_so(tmp_path: Path) -> None:
    for said, told in (
        ("Cannot save file into a non-existent directory: '~'", "Cannot save file .* '~'; choose a folder"),
        ("4096 requested and 17 written", "the disk took a part only; free some space"),
    ):
        with pytest.raises(WriteError, match=rf"cannot write .*x\.csv: {told}"), clear_write_errors(tmp_path / "x.csv"):
            raise OSError(said)


def test_a_full_disk_leaves_no_half_cache(tmp_path: Path) -> None:
    table = toy_crystals(40)
    with pytest.raises(WriteError, match=REFUSED.format("graphs-[0-9a-f]+")), files_up_to(2_000):
        CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert len(CrystalGraphs.cached(table, 6.0, 12, tmp_path, progress=False)) == 40


def test_a_run_on_a_full_disk_can_be_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The ledger cannot be written either: what failed first is what is reported."""

    def fills(folder: Path) -> dict[str, float]:
        write_results(folder / "results.csv", [ROW] * 1000)
        return {"rows": 1000}

    with Ledger(tmp_path) as ledger:
        ledger.run("early", lambda folder: {}, config=1, inputs={}, seed=0)
    before = (tmp_path / "ledger.json").read_text()

    def fills_it_all(folder: Path) -> dict[str, float]:
        with files_up_to(100):
            (folder / "small").write_text("x")
            ledger._record("late", ledger.stages["early"])
        return {}

    with pytest.raises(WriteError, match=REFUSED.format("ledger.json")), Ledger(tmp_path) as ledger:
        ledger.run("late", fills_it_all, config=1, inputs={}, seed=0)
    with pytest.raises(WriteError, match=REFUSED.format("ledger.json")), files_up_to(100):
        Ledger(tmp_path).__enter__()
    assert '"early"' in before
    with Ledger(tmp_path) as ledger:  # the lock was given back
        assert ledger.run("early", fills, config=1, inputs={}, seed=0).skipped
        assert not ledger.run("late", fills, config=1, inputs={}, seed=0).skipped


def test_the_first_fault_is_reported_when_the_ledger_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise WriteError("cannot write ledger.json")

    def breaks(folder: Path) -> dict[str, float]:
        monkeypatch.setattr("matwheel.flywheel.ledger.write_text_atomically", full)
        raise WriteError("cannot write best.ckpt")

    with pytest.raises(WriteError, match=r"best\.ckpt"), Ledger(tmp_path) as ledger:
        ledger.run("stage", breaks, config=1, inputs={}, seed=0)
    assert "cannot write ledger.json" in caplog.text


def test_writers_of_one_file_do_not_share_a_temporary(tmp_path: Path) -> None:
    """Even with equal process numbers, as two nodes may have: the one that ends last has written the file."""
    path = tmp_path / "fingerprints.npz"
    with replaced_when_complete(path) as first:
        first.write_text("first")
        with replaced_when_complete(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_program_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    with replaced_when_complete(tmp_path / "stage" / "best.ckpt") as temporary:
        temporary.write_text("half")
        remove_temporaries(tmp_path)
        assert not temporary.exists()
        temporary.write_text("whole")


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"cannot write .*x\.csv: .*; choose a folder"):
        write_results(tmp_path / "file" / "x.csv", [ROW])
    with pytest.raises(WriteError, match=r"choose another folder with data\.cache_dir or .* MATWHEEL_CACHE"):
        CrystalGraphs.cached(toy_crystals(), 6.0, 12, tmp_path / "file" / "cache", progress=False)


def test_a_damaged_parquet_of_a_run_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "labels.parquet", 5)
    content = (tmp_path / "labels.parquet").read_bytes()
    for bad in (content[:200], b"", content[: len(content) // 2] + bytes(8)):
        (tmp_path / "labels.parquet").write_bytes(bad)
        with pytest.raises(ValueError, match=r"labels\.parquet is not a table that can be read"):
            read_parquet(tmp_path / "labels.parquet")


TINY_DISK = """
import errno
from pathlib import Path
from tests.test_files import WRITERS
from matwheel.files import WriteError
disk = Path({folder!r})
for name, write in WRITERS.items():
    write(disk / name, 1)
    good = (disk / name).read_bytes()
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    try:
        write(disk / name, 200)
    except WriteError as error:
        print(error)
    assert (disk / name).read_bytes() == good
    filler.unlink()
    write(disk / name, 2)
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    (tmp_path / "run.py").write_text(TINY_DISK.format(folder=str(folder)))
    mount = f"mount -t tmpfs -o size=256k tmpfs {folder}"
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        mounted = subprocess.run([*alone, mount], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no unshare to mount a small disk with")
    if mounted.returncode:
        pytest.skip(f"this system lets nobody mount a small disk: {mounted.stderr.strip()}")
    done = subprocess.run(
        [*alone, f"{mount} && {sys.executable} {tmp_path / 'run.py'}"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No space left on device; free some space") == len(WRITERS)


@pytest.mark.parametrize("content", [None, b"{", b"\xff", b"[" * 100_000])
def test_records_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is not JSON that can be read"):
        read_json(path)
