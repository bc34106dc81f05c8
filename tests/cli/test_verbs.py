"""What `difftune` has: verbs, each with `--json`, and one way to name the service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from cli.main import app

NAMED = ("--url", "--key", "--data-dir")
WITHOUT_JSON = {
    "up",  # runs until it is ended
    "migrate",  # says nothing
    "demo",  # these end with a line of JSON
    "demo-controlnet",
    "compare",
    "secrets show",  # an env file
}


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            assert isinstance(command, TyperCommand)
            yield " ".join((*path, name)), command


def options(command: TyperCommand) -> set[str]:
    return {option for param in command.params for option in param.opts}


@pytest.fixture(scope="module")
def known() -> dict[str, TyperCommand]:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return dict(commands(root))


def test_every_command_answers_programs_too(known: dict[str, TyperCommand]) -> None:
    assert {name for name, command in known.items() if "--json" not in options(command)} == WITHOUT_JSON


def test_a_service_is_named_in_one_way(known: dict[str, TyperCommand]) -> None:
    speaking = {name: options(command) for name, command in known.items() if "--url" in options(command)}
    assert len(speaking) > 30
    assert not {name for name, found in speaking.items() if not found.issuperset(NAMED)}


@pytest.mark.parametrize("verb", ["list", "show", "pause", "resume", "cancel", "continue"])
def test_verbs_of_jobs_need_no_word_before_them(known: dict[str, TyperCommand], verb: str) -> None:
    assert options(known[verb]) == options(known[f"jobs {verb}"])


def test_a_shell_can_complete_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_DIFFTUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "difftune da")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert CliRunner().invoke(app, prog_name="difftune").output.split() == ["datasets"]
