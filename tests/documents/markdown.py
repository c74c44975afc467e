"""What is to be typed, in Markdown files."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`(python -m [\w.]+ [^`]+)`")
_COMMENT = re.compile(r"\s+#\s.*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: After the fence; `bash` is to be typed, `text` is what is printed then.
        title: Name of the file that the block is, if it is one.
        text: What is between the fences.
    """

    language: str
    title: str | None
    text: str


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    found = _FENCE.finditer(document.read_text(encoding="utf-8"))
    return [Block(match["language"], match["title"], match["text"]) for match in found]


def commands(block: Block) -> list[str]:
    """The commands of a block of bash, a line each, without comments."""
    lines = [_COMMENT.sub("", line).strip() for line in block.text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def inline_commands(document: Path) -> list[str]:
    """The commands within sentences."""
    prose = _FENCE.sub("", document.read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in _INLINE.findall(prose)]
