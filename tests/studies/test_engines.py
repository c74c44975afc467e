"""Engines run small programs."""

import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from matwheel.studies.command import Command, Finished, end
from matwheel.studies.engine import Engine
from matwheel.studies.local import LocalEngine
from matwheel.studies.ray_cluster import RayEngine
from matwheel.studies.slurm import SlurmEngine
from matwheel.user_errors import UserError
from tests.processes import wait_until_gone

PARENT = """
import sys
from pathlib import Path
from matwheel.studies.command import Command
Command('child', (sys.executable, '-c', sys.argv[1]), Path('child.txt'), Path.cwd()).run(1)
"""
CHILD = """
import os, time
from matwheel.parent import ends_with, parent_to_follow
with ends_with(parent_to_follow()):
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def command(folder: Path, name: str, program: str) -> Command:
    return Command(name, (sys.executable, "-c", program), folder / f"{name}.txt", folder)


@pytest.fixture(params=["local", "ray", "slurm"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Each engine that is installed; submitit with processes of this machine."""
    match request.param:
        case "ray":
            pytest.importorskip("ray")
            return RayEngine(jobs=2, threads=1, gpus=0)
        case "slurm":
            pytest.importorskip("submitit")
            return SlurmEngine(jobs=2, threads=1, gpus=0, folder=tmp_path / "slurm", cluster="local")
        case _:
            return LocalEngine(jobs=2, threads=1, gpus=None)


def test_all_are_run_and_how_they_ended_is_told(engine: Engine, tmp_path: Path) -> None:
    programs = {
        "good": "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MATWHEEL_PROCESSORS'], os.getcwd())",
        "bad": "print('some\\rprogress'); raise SystemExit(3)",
        "killed": "import os; os.kill(os.getpid(), 9)",
        "last": "",
    }
    commands = [command(tmp_path, name, program) for name, program in programs.items()]
    with closing(engine.run(commands)) as ended:
        problems = {finished.command.name: finished.problem for finished in ended}
    assert problems == {"good": "", "bad": "exit status 3", "killed": "ended by SIGKILL", "last": ""}
    assert commands[0].last_lines(5) == f"1 1 {tmp_path}"
    assert commands[1].last_lines(5) == "progress"
    assert commands[3].last_lines(5) == ""


def test_no_more_run_at_a_time_than_asked_for(tmp_path: Path) -> None:
    note = tmp_path / "running"
    note.mkdir()
    program = f"""
import os, time
from pathlib import Path
mine = Path({str(note)!r}, str(os.getpid()))
mine.touch(); time.sleep(0.3); print(len(list(mine.parent.iterdir()))); mine.unlink()
"""
    commands = [command(tmp_path, str(number), program) for number in range(5)]
    names = [finished.command.name for finished in LocalEngine(jobs=2, threads=1, gpus=None).run(commands)]
    assert sorted(names) == list("01234")
    assert {int(one.last_lines(1)) for one in commands} <= {1, 2}


@pytest.mark.parametrize(("gpus", "expected"), [(None, {"3,5", "GPU-7,9"}), (1, {"3", "5"}), (0, {""})])
def test_local_processes_have_gpus_of_their_own(
    gpus: int | None, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matwheel.studies.local.visible_cards", lambda: ["3", "5", "GPU-7", "9"])
    # A second one that sees the same GPUs at the same time fails.
    program = """
import os, time
seen = os.environ["CUDA_VISIBLE_DEVICES"]
print(seen)
if seen:
    os.mkdir(seen); time.sleep(0.3); os.rmdir(seen)
"""
    commands = [command(tmp_path, str(number), program) for number in range(5)]
    problems = {finished.problem for finished in LocalEngine(jobs=2, threads=1, gpus=gpus).run(commands)}
    assert problems == {""}
    assert {one.last_lines(1) for one in commands} == expected


def test_no_gpus_are_seen_that_were_not_asked_for(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matwheel.studies.local.visible_cards", list)
    one = command(tmp_path, "one", "import os; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))")
    assert [finished.problem for finished in engine.run([one])] == [""]
    assert one.last_lines(1) == "''"


@pytest.mark.parametrize("gpus", [0, 2])
def test_clusters_are_asked_for_gpus(gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, submitit = MagicMock(), MagicMock()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    assert list(RayEngine(jobs=2, threads=3, gpus=gpus).run([])) == []
    assert ray.remote.call_args.kwargs == {"num_cpus": 3, "num_gpus": gpus, "max_retries": 0}
    assert list(SlurmEngine(jobs=2, threads=3, gpus=gpus, folder=tmp_path).run([])) == []
    asked = submitit.AutoExecutor.return_value.update_parameters.call_args.kwargs
    assert (asked["cpus_per_task"], asked["gpus_per_node"]) == (3, gpus or None)


def test_what_runs_is_ended_with_the_generator(engine: Engine, tmp_path: Path) -> None:
    sleepy = "import os, time; print(os.getpid(), flush=True); time.sleep(120)"
    commands = [command(tmp_path, "quick", ""), command(tmp_path, "sleepy", sleepy)]
    with closing(engine.run(commands)) as ended:
        assert next(ended).command.name == "quick"
        pid = _number(commands[1].log)
    wait_until_gone(pid)


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matwheel.studies.command._PATIENCE", 0.2)
    deaf = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(120)"
    process = command(tmp_path, "deaf", deaf).start(1)
    _number(tmp_path / "deaf.txt")
    end([process])
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_does_not_outlive_the_study(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], cwd=tmp_path)
    pid = _number(tmp_path / "child.txt")
    parent.kill()
    parent.wait()
    wait_until_gone(pid)


@pytest.mark.parametrize(
    ("engine", "extra"),
    [(RayEngine(1, 1, 0), "ray"), (SlurmEngine(1, 1, 0, Path("folder")), "slurm")],
    ids=["ray", "slurm"],
)
def test_a_missing_extra_is_named(engine: Engine, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'pip install "matwheel\[{extra}\]"'):
        next(engine.run([]))


def test_the_name_of_a_signal(tmp_path: Path) -> None:
    assert Finished.with_status(command(tmp_path, "a", ""), -15).problem == "ended by SIGTERM"


def _number(log: Path) -> int:
    """The number that a program writes when it is ready."""
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(log.read_text())
