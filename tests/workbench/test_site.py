"""The site of the documentation: every page is in its menu, every request of the API has its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from workbench.site.rest import page_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class _Lenient(yaml.SafeLoader):
    pass


def _pages(entries: Any) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from _pages(entry)


def test_the_menu_has_every_page() -> None:
    menu = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Lenient)["nav"]  # ours
    listed = list(_pages(menu))
    assert len(listed) == len(set(listed))
    assert {path.name for path in DOCS.glob("*.md")} <= set(listed)


def test_every_request_is_described() -> None:
    schema = json.loads((DOCS / "schemas" / "openapi.json").read_text(encoding="utf-8"))
    page = page_of(schema)
    requests = [(method, path) for path, methods in schema["paths"].items() for method in methods]
    assert len(requests) > 50
    for method, path in requests:
        assert page.count(f"### `{method.upper()} {path}`\n") == 1
    assert "| `limit` | query | integer | Items on a page, at most. |" in page
    login = page.partition("### `GET /healthz`")[2].partition("###")[0]
    assert "Needs no key." in login
