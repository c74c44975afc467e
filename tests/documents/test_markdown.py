"""How commands are found in documents and made short."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.documents.markdown import Block, blocks, commands, inline_commands
from tests.documents.shortened import FEW, shortened

DOCUMENT = """Type `python -m matwheel.study study.yaml --jobs 2`, or a `word`.

```bash
# a comment
python -m matwheel.fit fit \\
    -c a.yaml       # what it does

make test
```

```python title="file.py"
print("`python -m nothing at all`")
```
"""


def test_what_is_in_a_document(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(DOCUMENT)
    bash, file = blocks(document)
    assert (bash.language, bash.title, file.language, file.title) == ("bash", None, "python", "file.py")
    assert [line.split() for line in commands(bash)] == [
        ["python", "-m", "matwheel.fit", "fit", "-c", "a.yaml"],
        ["make", "test"],
    ]
    assert inline_commands(document) == ["python -m matwheel.study study.yaml --jobs 2"]


@given(st.lists(st.text(alphabet="ab -./$", min_size=1, max_size=12), max_size=5))
def test_other_commands_stay(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert shortened(text) == text
    assert all(line in text for line in commands(Block("bash", None, text)))


def test_commands_keep_their_beginning() -> None:
    lines = ["for i in 1; do", "python -m matwheel.fit fit -c flywheel/full.yaml --name n-$i", "done"]
    first, fit, last = shortened("\n".join(lines)).split("\n")
    assert (first, last) == ("for i in 1; do", "done")
    assert fit.startswith(f"{lines[1]} --trainer.")
    assert f"--data.dataset {FEW}" in fit
    assert FEW not in shortened("python -m matwheel.fit fit -c flywheel/full.yaml --data.dataset my.csv")


@pytest.mark.parametrize("part", ["prior.sampler", "generator.encoder", "filter"])
def test_options_of_a_class_that_is_replaced_are_left_out(part: str) -> None:
    command = f"python -m matwheel.fit fit -c flywheel/full.yaml --trainer.callbacks.{part} my.Class"
    assert f"--trainer.callbacks.{part}." in shortened("python -m matwheel.fit fit -c flywheel/full.yaml")
    assert f"--trainer.callbacks.{part}." not in shortened(command)
