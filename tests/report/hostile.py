"""Texts that break pages which do not escape them, and a reader of pages that notices."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&amp; $x$ {{ 1 + 1 }}"
_VOID = frozenset({"meta", "img", "br", "circle", "link", "input", "hr"})


@dataclass
class Page(HTMLParser):
    """Elements and text of a page; refuses elements that are not closed in order.

    Attributes:
        elements: Name and attributes of every element, in order.
        text: All text outside scripts and styles.
        scripts: Content of each script.
    """

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    scripts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    @classmethod
    def read(cls, html: str) -> "Page":
        page = cls()
        page.feed(html)
        page.close()
        assert not page._open, f"not closed: {page._open}"
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self._open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def check(self) -> None:
        """Nothing foreign runs, nothing is fetched, ids are unique, pictures have texts, and headings skip no level."""
        assert [script.get("type") for script in self.all("script")] == ["application/json", None]
        for _, attributes in self.elements:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href"):
                assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml;base64,"))
        assert all(picture["alt"] for picture in self.all("img"))
        assert all(canvas["aria-label"] for canvas in self.all("canvas"))
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        levels = [int(name[1]) for name, _ in self.elements if name in ("h1", "h2", "h3")]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
