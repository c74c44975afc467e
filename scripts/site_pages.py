"""Hook of mkdocs: pages made from files outside docs/, and links of all pages.

The read-me files of `benchmarks/` and `experiments/*/`, their pictures and tables of results, and the change log become
pages, so that nothing is copied by hand. A relative link means the same in the repository and on the site: it leads to
the page of the file it names, or to the file in the repository where there is no page.
"""

from __future__ import annotations

import csv
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_BENCHMARKS = "benchmarks/README.md"
_EXPERIMENTS = "experiments.md"
_LINK = re.compile(r"\]\((?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def pages(root: Path = ROOT) -> dict[str, str]:
    """Files of the repository outside docs/ that have a page, and its path on the site."""
    experiments = sorted(path.parent.name for path in root.glob("experiments/*/README.md"))
    fixed = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", _BENCHMARKS: "benchmarks.md"}
    return fixed | {f"experiments/{name}/README.md": f"experiments/{name}.md" for name in experiments}


def content(source: str, root: Path = ROOT) -> str:
    """Markdown of the page of a file: its text, then the results that lie beside it."""
    folder = (root / source).parent
    parts = [(root / source).read_text(encoding="utf-8")]
    if source == _BENCHMARKS:
        figures = json.loads((folder / "latest.json").read_text(encoding="utf-8"))
        rows = [(name, f"{value:.4g}") for name, value in figures.items()]
        parts.append("## Latest figures\n\n`benchmarks/latest.json`:\n\n" + table(("figure", "value"), rows))
    elif source.startswith("experiments/"):
        for path in sorted(folder.glob("*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            indented = table(header, rows).replace("\n", "\n    ")
            parts.append(f'??? note "{path.name}, {len(rows)} rows"\n\n    {indented}')
    return "\n\n".join(parts) + "\n"


def overview(root: Path = ROOT) -> str:
    """Markdown of the page with all experiments: their own README, then title and first paragraph of each."""
    parts = [(root / "experiments" / "README.md").read_text(encoding="utf-8").rstrip()]
    for source in pages(root):
        if source.startswith("experiments/"):
            title, paragraph = (root / source).read_text(encoding="utf-8").split("\n\n")[:2]
            parts += [f"## {title.removeprefix('# ')}", paragraph, f"[More]({source.removeprefix('experiments/')})"]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def site_link(target: str, source: str, known: Mapping[str, str], repository: str, root: Path = ROOT) -> str | None:
    """Where a relative link leads on the site.

    Args:
        target: What the link names, relative to the file it stands in.
        source: That file, relative to the repository.
        known: Files of the repository with a page or a copy on the site, and their paths there.
        repository: URL of the repository.
        root: Folder of the repository.

    Returns:
        A path relative to the root of the site, or a URL; None for what does not exist, which mkdocs complains about.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    for name in (path, f"{path}/README.md"):
        if name in known:
            return known[name]
    if not (root / path).exists():
        return None
    return f"{repository}/{'tree' if (root / path).is_dir() else 'blob'}/main/{path}"


def with_site_links(text: str, source: str, page: str, known: Mapping[str, str], repository: str) -> str:
    """Markdown of a file as a page of the site, see `site_link`; code blocks stay as they are."""

    def link(match: re.Match[str]) -> str:
        found = site_link(match[1], source, known, repository)
        if found is None:
            return match[0]
        if "://" not in found:
            found = posixpath.relpath(found, posixpath.dirname(page) or ".")
        return f"]({found}{match[2] or ''})"

    blocks = _CODE.findall(text)
    parts = [_LINK.sub(link, part) for part in _CODE.split(text)]
    return "".join(part for pair in zip(parts, [*blocks, ""], strict=True) for part in pair)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the experiments into the navigation."""
    found = [page for source, page in pages().items() if source.startswith("experiments/")]
    config.nav = [*(config.nav or []), {"Experiments": [{"Overview": _EXPERIMENTS}, *found]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the pictures beside them."""
    from mkdocs.structure.files import File

    for source, page in pages().items():
        files.append(File.generated(config, page, content=content(source)))
        for picture in (ROOT / source).parent.glob("*.png") if "/" in source else ():
            place = posixpath.join(posixpath.dirname(page), picture.name)
            files.append(File.generated(config, place, abs_src_path=str(picture)))
    files.append(File.generated(config, _EXPERIMENTS, content=overview()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to pages."""
    outside = pages()
    known = outside | {"README.md": "index.md", "experiments/README.md": _EXPERIMENTS}
    for source, place in outside.items():
        for picture in (ROOT / source).parent.glob("*.png") if "/" in source else ():
            known[picture.relative_to(ROOT).as_posix()] = posixpath.join(posixpath.dirname(place), picture.name)
    known |= {f"docs/{file.src_uri}": file.src_uri for file in files if file.src_uri not in known.values()}
    sources = {place: source for source, place in outside.items()} | {_EXPERIMENTS: "experiments/README.md"}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return with_site_links(markdown, source, page.file.src_uri, known, str(config.repo_url).rstrip("/"))
