"""What README and docs say of settings is true of the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.settings import SECRETS_DIR, Settings
from difftune_core.config.figures.page import table

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAME = re.compile(r"DIFFTUNE_[A-Z0-9_]*[A-Z0-9]")
FIELDS = {f"DIFFTUNE_{name.upper()}" for name in Settings.model_fields}
OF_FILES = (ROOT / "docker-compose.yml", ROOT / "docker" / "nodes.yml", ROOT / "docker" / "monitoring.yml")
OF_COMPOSE = {name for path in OF_FILES for name in re.findall(r"\$\{(DIFFTUNE_\w+)", path.read_text(encoding="utf-8"))}
OF_COMMANDS = {SECRETS_DIR, "DIFFTUNE_URL", "DIFFTUNE_API_KEY", "DIFFTUNE_PROFILES"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_documented_is_one(page: Path) -> None:
    named = set(NAME.findall(page.read_text(encoding="utf-8")))
    assert not named - FIELDS - OF_COMPOSE - OF_COMMANDS


def test_defaults_in_the_table_of_the_services_settings() -> None:
    text = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    table = text.split("## Settings of the service\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `DIFFTUNE_(\w+)` \| `?([\d.]+)`? \|", table, re.MULTILINE))
    assert {"HOST", "PORT"} <= set(rows)
    for name, said in rows.items():
        default = Settings.model_fields[name.lower()].default
        assert said == (default if isinstance(default, str) else f"{default:.0f}"), name


def test_the_table_of_figures_is_the_one_that_the_source_has() -> None:
    assert table() in (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_glossary_names_what_there_is() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    places = re.findall(r"`([a-z_]+/[\w./-]*)`", text) + re.findall(r"`([a-z_]+\.py)`", text)
    assert len(places) > 40
    assert not [place for place in places if not ((ROOT / place).exists() or (ROOT / "difftune_core" / place).exists())]
    sources = [
        path.read_text(encoding="utf-8") for top in ("api", "difftune_core") for path in (ROOT / top).rglob("*.py")
    ]
    classes = set(re.findall(r"^class (\w+)", "\n".join(sources), re.MULTILINE))
    assert set(re.findall(r"`([A-Z]\w+)`", text)) <= classes


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
