"""What mkdocs calls: pages that are made of what lies elsewhere, the README as the first of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from workbench.site.rest import page_of

_ROOT = Path(__file__).parents[2]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]+\)")
_TITLE = re.compile(r"^# (\d+)\. (.+)$", re.MULTILINE)
_AT_THE_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_PYTHON = """# Python reference

How to begin is on the page [Python](python.md).

::: difftune
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    schema = json.loads((_ROOT / "docs" / "schemas" / "openapi.json").read_text(encoding="utf-8"))
    made = {
        "index.md": re.sub(r"""(\]\(|src="|srcset=")docs/""", r"\1", readme),
        "rest.md": page_of(schema),
        "python-reference.md": _PYTHON,
        "decisions/index.md": _decisions(),
        **{name: (_ROOT / name).read_text(encoding="utf-8") for name in _AT_THE_ROOT},
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def _decisions() -> str:
    lines = ["# Decisions", "", "Why things are as they are, where it is not plain.", ""]
    for path in sorted((_ROOT / "docs" / "decisions").glob("0*.md")):
        number, title = _TITLE.findall(path.read_text(encoding="utf-8"))[0]
        lines.append(f"- [{number}. {title}]({path.name})")
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Name what lies outside the site, where a link leads nowhere."""
    return _OUTSIDE.sub(r"\1", markdown)
