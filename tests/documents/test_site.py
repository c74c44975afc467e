"""The documentation as a site."""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.site_pages import content, overview, pages, site_link, table, with_site_links
from tests.documents.markdown import ROOT

KNOWN = {"docs/report.md": "report.md", "README.md": "index.md", "experiments/paper/README.md": "experiments/paper.md"}
REPOSITORY = "https://example.org/matwheel"


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("docs/report.md", "README.md", "report.md"),
        ("../README.md", "docs/report.md", "index.md"),
        ("../experiments/paper", "docs/report.md", "experiments/paper.md"),
        ("../../docs/report.md", "experiments/paper/README.md", "report.md"),
        ("../LICENSE", "docs/report.md", f"{REPOSITORY}/blob/main/LICENSE"),
        ("../configs/", "docs/report.md", f"{REPOSITORY}/tree/main/configs"),
        ("nothing.md", "docs/report.md", None),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(target: str, source: str, expected: str | None) -> None:
    assert site_link(target, source, KNOWN, REPOSITORY) == expected


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda page: page.stem)
def test_what_the_pages_of_the_api_name_exists(page: Path) -> None:
    """mkdocstrings leaves out a member that is not there without a word."""
    for name, members in re.findall(
        r"^::: (\S+)$(?:\n    options: \{members: \[(.*?)\])?", page.read_text(), re.MULTILINE
    ):
        found = pkgutil.resolve_name(name)
        assert [member for member in members.split(", ") if member and not hasattr(found, member)] == []


def test_links_are_relative_to_their_page_and_code_is_left_alone() -> None:
    text = "[a](../../docs/report.md#answer) [b](https://x.org) [c](#here)\n```bash\n[d](../../docs/report.md)\n```\n"
    changed = with_site_links(text, "experiments/paper/README.md", "experiments/paper.md", KNOWN, REPOSITORY)
    assert changed == text.replace("../../docs/report.md#answer", "../report.md#answer")


@given(st.text(alphabet="ab `\n#", max_size=60))
def test_text_without_links_stays(text: str) -> None:
    assert with_site_links(text, "docs/report.md", "report.md", KNOWN, REPOSITORY) == text


def test_pages_have_the_committed_results() -> None:
    figures = json.loads((ROOT / "benchmarks" / "latest.json").read_text())
    benchmarks = content("benchmarks/README.md")
    assert all(f"| {name} | {value:.4g} |" in benchmarks for name, value in figures.items())
    for source in pages():
        tables = sorted((ROOT / source).parent.glob("*.csv")) if source.startswith("experiments/") else []
        for path in tables:
            rows = path.read_text().count("\n") - 1
            assert f'??? note "{path.name}, {rows} rows"' in content(source)
    assert overview().count("[More]") == len(list((ROOT / "experiments").glob("*/README.md")))


def test_cells_may_hold_bars() -> None:
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, check=True, cwd=ROOT)
    assert (tmp_path / "site" / "experiments" / "paper.html").is_file()
