import os
import subprocess
import sys

import pytest

from matwheel.processors import available_processors


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not bind processes to processors")
def test_those_that_the_process_may_use_are_counted() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{one}]); from matwheel.processors import *; print(available_processors())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(("limit", "expected"), [("", 6), ("4", 4), ("8", 6), ("0", 6), ("all", 6)])
def test_a_study_divides_them(limit: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setenv("MATWHEEL_PROCESSORS", limit)
    assert available_processors() == expected


def test_where_the_system_does_not_tell_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_processors() == 6
