"""Every row of docs/faults.md names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")


def test_the_tests_that_are_named_exist() -> None:
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.startswith("| fault ")]
    assert len(rows) > 25
    file = ""
    for row in rows:
        last = row.rstrip("| ").rpartition(" | ")[2]
        if last == "the same":
            continue
        names = re.findall(r"`([\w/]*\.py)?(?:::(\w+))?`", last)
        assert names, row
        for named, test in names:
            file = named or file
            assert (TESTS / file).is_file(), file
            assert f"def {test}" in (TESTS / file).read_text(encoding="utf-8"), (file, test)
