"""What an offline run of Weights & Biases left on disk, read back without its server."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32768  # the files are logs of LevelDB's format behind a header of their own
_FILE_HEADER, _RECORD_HEADER = 7, 7
_PATIENCE = 30.0  # seconds
_LAST = (1, 4)  # a whole record, or the last part of one


@dataclass
class WandbRun:
    """A run.

    Attributes:
        id: Unique.
        name: As shown.
        group: Of runs.
        job_type: Its kind.
        config: As given.
        summary: Last value of each metric.
        made: Artifacts it logged, by name, with type, digest and metadata.
        used: Artifacts it used.
        tables: By name, columns and rows.
        keys: Names of metrics in its history.
        exit_code: How it ended; None as long as it is open.
    """

    id: str
    name: str = ""
    group: str = ""
    job_type: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    exit_code: int | None = None


def read_runs(folder: Path) -> list[WandbRun]:
    """All offline runs in a folder `wandb`, which must have ended; the process that writes them may be a bit behind."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        runs = [_read(path) for path in sorted(folder.glob("offline-run-*/run-*.wandb"))]
        if all(run.exit_code is not None for run in runs):
            return runs
        if time.monotonic() > deadline:
            raise TimeoutError(f"{[run.name for run in runs if run.exit_code is None]} have not ended")
        time.sleep(0.2)


def _read(path: Path) -> WandbRun:
    run = WandbRun(path.stem.removeprefix("run-"))
    for record in _records(path.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                run.name, run.group, run.job_type = record.run.display_name, record.run.run_group, record.run.job_type
                run.config.update(_values(record.run.config.update))
            case "config":
                run.config.update(_values(record.config.update))
            case "summary":
                run.summary.update(_values(record.summary.update))
            case "history":
                run.keys |= set(_values(record.history.item))
            case "exit":
                run.exit_code = record.exit.exit_code
            case "artifact":
                artifact = record.artifact
                known = {
                    "type": artifact.type,
                    "digest": artifact.digest,
                    "metadata": json.loads(artifact.metadata or "{}"),
                    "files": sorted(entry.path for entry in artifact.manifest.contents),
                }
                if not artifact.type.startswith("run_"):  # those of tables
                    (run.used if artifact.use_after_commit else run.made)[artifact.name] = known
    for file in path.parent.rglob("*.table.json"):
        table = json.loads(file.read_text())
        run.tables[file.name.rpartition("_")[0].rpartition("_")[0]] = table
    return run


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(content: bytes) -> Iterator[Record]:
    position, parts = _FILE_HEADER, b""
    while position + _RECORD_HEADER <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _RECORD_HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + _RECORD_HEADER])
        position += _RECORD_HEADER
        parts += content[position : position + length]
        position += length
        if kind in _LAST:
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
