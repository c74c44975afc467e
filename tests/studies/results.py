"""Runs of the wheel that nobody made."""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matwheel.flywheel.results import ResultRow, write_results
from matwheel.studies.command import Command, Finished


@dataclass
class PretendEngine:
    """Leaves what a run leaves; programs whose name holds `failing` fail, those with `idle` leave nothing."""

    failing: str | None = None
    idle: str | None = None
    ran: list[str] = field(default_factory=list)

    def run(self, commands: Sequence[Command]) -> Generator[Finished]:
        """See `Engine.run`."""
        for command in commands:
            self.ran.append(command.name)
            failed = self.failing is not None and self.failing in command.name
            if not failed and (self.idle is None or self.idle not in command.name):
                pretend(command.log.parent, float(len(self.ran)))
            yield Finished(command, "exit status 1" if failed else "")


def pretend(folder: Path, error: float) -> None:
    """Write the results and the split of a run with two arms."""
    row = ("table.csv", "gap", "full"), ("RandomSplit-0", 7), (80, 0, error, error, 0.5, error, 1.0)
    write_results(
        folder / "results.csv",
        [ResultRow(*row[0], arm, "CGCNN", *row[1], round, *row[2]) for arm, round in (("F", 0), ("F+G_F", 1))],
    )
    (folder / "version_0").mkdir(parents=True, exist_ok=True)
    parts = {"train": list(range(80)), "val": [], "test": list(range(20))}
    (folder / "version_0" / "split.json").write_text(json.dumps(parts))
