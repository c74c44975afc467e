"""Pages that need nothing but a browser: styles, script, figures and crystals are inside, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from matwheel.report.gallery import Gallery

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, title: str, gallery: Gallery, **content: Any) -> str:
    """Fill a template; every text in the content is escaped.

    Args:
        template: Name of a file in `templates`.
        title: Title of the page.
        gallery: Drawings for the viewer.
        content: What else the template needs.
    """
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "viewer.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        title=title,
        css=Markup(css),
        script=Markup(script),
        script_hash=digest,  # the browser runs this script only, whatever else might get into the page
        drawings=gallery.drawings,
        **content,
    )


def in_words(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
