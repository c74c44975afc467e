import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import is_alive, wait_until_gone

CHILD = """
import os, sys, time
from pathlib import Path
from matwheel.parent import ends_with
with ends_with(os.getppid()):
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(60)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"


@pytest.mark.slow
def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with (tmp_path / "out").open("w") as out:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(note)], stdout=out, stderr=out)
    while not (note.exists() and note.read_text()):
        assert parent.poll() is None, (tmp_path / "out").read_text()
        time.sleep(0.05)
    child = int(note.read_text())
    time.sleep(3)
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until_gone(child)
    assert f"process {parent.pid}, which started this one, is no more" in (tmp_path / "out").read_text()
