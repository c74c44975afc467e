"""How a run was made: commands, versions, seeds, commit, configuration and stages."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matwheel.files import RUN_RECORD, read_json
from matwheel.flywheel.ledger import read_stages
from matwheel.models.run_config import CONFIG
from matwheel.report.folders import RunFolder
from matwheel.report.numbers import number
from matwheel.report.page_tables import PageTable

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Provenance:
    """What is needed to make a run again.

    Attributes:
        commands: Command lines that worked in the folder, in order, each once.
        facts: Versions, commit, seeds and splits.
        stages: Status, seed and duration of every stage.
        config: The latest configuration as YAML; empty where none was saved.
    """

    commands: list[str]
    facts: PageTable
    stages: PageTable
    config: str


def read_provenance(run: RunFolder) -> Provenance:
    """Read the records of a run.

    Raises:
        ValueError: If a record is damaged.
    """
    records = [read_json(folder / RUN_RECORD) for folder in run.versions if (folder / RUN_RECORD).is_file()]
    stages = read_stages(run.path)
    versions = [record["versions"] for record in records] or [stage.versions for stage in stages.values()][-1:]
    facts = [(name, str(version)) for name, version in (versions[-1].items() if versions else ())]
    if records:
        facts.append(("git commit", str(records[-1].get("commit") or "not run from a git repository")))
    facts.append(("seeds", ", ".join(dict.fromkeys(str(row.seed) for row in run.rows))))
    facts.append(("splits", ", ".join(dict.fromkeys(row.split for row in run.rows))))
    configs = [folder / CONFIG for folder in run.versions if (folder / CONFIG).is_file()]
    lines = [(name, stage.status, str(stage.seed), number(stage.seconds, 3)) for name, stage in stages.items()]
    return Provenance(
        commands=list(dict.fromkeys(command_line(record["command"]) for record in records)),
        facts=PageTable(("", "version or value"), facts, names=2),
        stages=PageTable(("stage", "status", "seed", "seconds"), lines, names=2),
        config=configs[-1].read_text(encoding="utf-8") if configs else "",
    )


def command_line(arguments: Sequence[str]) -> str:
    """A command as one types it, for `sys.argv` of a process."""
    program = Path(arguments[0])
    if program.parent.name == _PACKAGE:
        return shlex.join(["python", "-m", f"{_PACKAGE}.{program.stem}", *arguments[1:]])
    return shlex.join(["python", *arguments])
