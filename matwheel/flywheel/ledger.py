"""The ledger of a run: which stages are finished, from which inputs, and where their results lie."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

from filelock import FileLock, Timeout

from matwheel.files import LEDGER, STAGE, remove_temporaries, write_text_atomically
from matwheel.flywheel.fingerprint import Json, fingerprint
from matwheel.flywheel.processes import SINGLE_PROCESS, Processes
from matwheel.progress import Steps
from matwheel.user_errors import UserError

log = logging.getLogger(__name__)

STAGES = "stages"
"""Folder with a folder for each stage."""
RESULTS_REVISION = 6
"""Raised when the same settings give other results than before: no stage of an older revision counts as finished."""
_REPLACED = ".partial-replaced"
"""Ending of a folder about to be deleted."""
_PACKAGES = ("matwheel", "torch", "lightning", "torch-geometric", "numpy")


class RunLockedError(UserError):
    """Another process is working in the run folder."""


@dataclass(frozen=True)
class StageRecord:
    """What the ledger knows of one stage.

    Attributes:
        status: `running` also if the process was killed.
        key: Hash of all that determines the result: name, config, inputs, seed, `RESULTS_REVISION`.
        config_hash: Hash of the stage's own settings.
        inputs: Key of each stage (or hash of the data) that this one was computed from.
        seed: Seed of the stage.
        started: When the latest attempt began, UTC.
        seconds: Duration over all attempts; one that was killed is not counted.
        metrics: Numbers the stage reported.
        versions: Versions of the packages that matter.
        error: Why it failed.
    """

    status: Literal["running", "finished", "failed"]
    key: str
    config_hash: str
    inputs: dict[str, str]
    seed: int
    started: str
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class StageResult:
    """A finished stage: its key (input of the stages after it), its folder and what it reported.

    Attributes:
        key: See `StageRecord`.
        folder: Where its artifacts lie.
        metrics: See `StageRecord`.
        seconds: See `StageRecord`.
        skipped: Whether it had been finished before.
    """

    key: str
    folder: Path
    metrics: Mapping[str, float]
    seconds: float
    skipped: bool


class Ledger:
    """Runs stages in a run folder, skipping those that are finished, and records them in `ledger.json`.

    A stage's key is a hash of its name, settings, seed and the keys of its inputs, so a changed setting redoes that
    stage and all that depend on it, nothing else. A stage works in a temporary folder that is renamed when it is
    complete; if it is interrupted, the next attempt with the same key finds what was left there and may continue. What
    is finished is told by the folders, each of which holds the record of its stage, so that no moment is a bad one to
    be killed at.

    Use it as a context manager: the run folder is locked in between.

    Args:
        folder: The run folder, created if missing.
        processes: The processes that run the stages together; only the first one writes.
    """

    def __init__(self, folder: Path, processes: Processes = SINGLE_PROCESS) -> None:
        self.folder = folder
        self.processes = processes
        self._lock = FileLock(folder / "ledger.lock")
        self._started = _now()
        self.steps = Steps()
        """Numbers the stages in the log."""
        self.stages: dict[str, StageRecord] = {}

    def __enter__(self) -> Self:
        refusal = self.processes.broadcast(self._acquire() if self.processes.is_first else "")
        if refusal:
            raise RunLockedError(refusal)
        try:
            self.stages = read_stages(self.folder)
            self._save()
            if self.processes.is_first:
                for replaced in (self.folder / STAGES).glob(f"*{_REPLACED}"):
                    shutil.rmtree(replaced)
        except BaseException:
            self.__exit__()
            raise
        self.processes.barrier()
        return self

    def __exit__(self, *_: object) -> None:
        if self.processes.is_first:
            self._lock.release()

    def stage_folder(self, name: str) -> Path:
        """Where the artifacts of a finished stage lie."""
        return self.folder / STAGES / name

    def run(
        self,
        name: str,
        work: Callable[[Path], Mapping[str, float]],
        config: Json,
        inputs: Mapping[str, str],
        seed: int,
    ) -> StageResult:
        """Run a stage, or return what it left when it was finished before.

        Args:
            name: Name of the stage, also of its folder.
            work: Called with the folder to write into; returns metrics. The folder may hold what an interrupted
                attempt with the same key left.
            config: Description of all settings that influence the result (`fingerprint.describe`).
            inputs: Keys of the stages (or hashes of the data) the result depends on.
            seed: Seed of the stage.
        """
        finished = self.finished(name, config, inputs, seed)
        label = self.steps.reach(name)
        if finished is not None:
            log.info("%s: finished before, skipped", label)
            return finished

        config_hash, key = self._hashes(name, config, inputs, seed)
        folder, partial = self.stage_folder(name), self._partial_folder(name, key)
        known = self.stages.get(name)
        earlier = known.seconds if known is not None and known.key == key else 0.0
        record = StageRecord("running", key, config_hash, dict(inputs), seed, _now(), earlier, versions=_versions())
        self._record(name, record)
        if self.processes.is_first:
            for stale in folder.parent.glob(f"{folder.name}.partial-*"):
                if stale != partial:
                    shutil.rmtree(stale)
            partial.mkdir(parents=True, exist_ok=True)
            remove_temporaries(partial)
            log.info("%s: %s", label, "resumed" if any(partial.iterdir()) else "started")
        self.processes.barrier()

        clock = time.perf_counter()
        try:
            metrics = {metric: float(value) for metric, value in work(partial).items()}
        except BaseException as error:
            seconds = earlier + time.perf_counter() - clock
            message = f"{type(error).__name__}: {error}"
            try:
                self._record(name, replace(record, status="failed", seconds=seconds, error=message))
            except OSError as unwritten:  # on a full disk, what failed first matters more
                log.error("%s", unwritten)
            raise
        self.processes.barrier()
        seconds = self.processes.broadcast(earlier + time.perf_counter() - clock)
        record = replace(record, status="finished", seconds=seconds, metrics=metrics)
        if self.processes.is_first:
            content = {"name": name, "config": config, "record": asdict(record)}
            write_text_atomically(partial / STAGE, json.dumps(content, indent=1))
            _replace(folder, partial)
        self._record(name, record)
        self.processes.barrier()
        log.info("%s: finished in %.1f s, %s since the start", label, seconds, self.steps.elapsed)
        return StageResult(key, folder, metrics, seconds, skipped=False)

    def finished(self, name: str, config: Json, inputs: Mapping[str, str], seed: int) -> StageResult | None:
        """What a stage left if it was finished before with these settings (see `run`), else None.

        All processes must ask together.
        """
        _, key = self._hashes(name, config, inputs, seed)
        folder, partial = self.stage_folder(name), self._partial_folder(name, key)
        found = None
        if self.processes.is_first:
            found = _read_record(folder, key)
            if found is None and (found := _read_record(partial, key)) is not None:
                _replace(folder, partial)  # killed just before this
        record: StageRecord | None = self.processes.broadcast(found)
        if record is None:
            return None
        if self.stages.get(name) != record:
            self._record(name, record)
        return StageResult(key, folder, record.metrics, record.seconds, skipped=True)

    def _partial_folder(self, name: str, key: str) -> Path:
        folder = self.stage_folder(name)
        return folder.with_name(f"{folder.name}.partial-{key[:12]}")

    @staticmethod
    def _hashes(name: str, config: Json, inputs: Mapping[str, str], seed: int) -> tuple[str, str]:
        config_hash = fingerprint(config)
        given: dict[str, Json] = {"name": name, "config": config_hash, "inputs": dict(inputs), "seed": seed}
        return config_hash, fingerprint({"revision": RESULTS_REVISION, **given})

    def _record(self, name: str, record: StageRecord) -> None:
        self.stages[name] = record
        self._save()

    def _save(self) -> None:
        if self.processes.is_first:
            content = {
                "process": {"pid": os.getpid(), "host": socket.gethostname(), "started": self._started},
                "stages": {name: asdict(record) for name, record in self.stages.items()},
            }
            write_text_atomically(self.folder / LEDGER, json.dumps(content, indent=1))

    def _acquire(self) -> str:
        """Lock the run folder; returns why not, or an empty string."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            process = _read(self.folder).get("process", {})
            return (
                f"{self.folder} is in use by process {process.get('pid')} on {process.get('host')} since "
                f"{process.get('started')}: wait until it ends, or give this run another name"
            )
        return ""


def read_stages(folder: Path) -> dict[str, StageRecord]:
    """What the ledger in a run folder knows of each stage, by name; nothing where there is no ledger.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return {name: StageRecord(**record) for name, record in _read(folder).get("stages", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / LEDGER} is damaged or of another version of this program ({error}): give this run "
            "another name, or delete the file, which repeats all stages"
        ) from error


def _read(folder: Path) -> dict[str, Any]:
    path = folder / LEDGER
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _read_record(folder: Path, key: str) -> StageRecord | None:
    """The record of a finished stage in its folder, None where there is none or one with another key."""
    path = folder / STAGE
    if not path.is_file():
        return None
    try:
        record = StageRecord(**json.loads(path.read_text(encoding="utf-8"))["record"])
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged or of another version of this program (%r): the stage is done again", path, error)
        return None
    return record if record.key == key else None


def _replace(folder: Path, complete: Path) -> None:
    """Put a complete folder in the place of another one; no half of either is ever seen under the name."""
    replaced = folder.with_name(f"{folder.name}{_REPLACED}")
    if folder.is_dir():
        folder.rename(replaced)
    complete.rename(folder)
    if replaced.is_dir():
        shutil.rmtree(replaced)


def derive_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, independent of those for others."""
    return int(fingerprint([seed, purpose])[:8], 16) % 2**31


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}
