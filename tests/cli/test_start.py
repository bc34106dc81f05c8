from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli import doctor, up
from cli.main import app
from difftune import extras
from difftune.extras import extra_of, lacking
from tests.test_dependencies import OURS, ROOT, imports


@pytest.mark.parametrize(("module", "extra"), [("typer", "cli"), ("pydantic_settings", "api")])
def test_a_command_that_lacks_a_package_says_which_extra_brings_it(module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from cli.start import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == f"difftune: this needs the extra '{extra}': pip install 'difftune[{extra}]'\n"


def test_every_package_that_we_import_has_an_extra() -> None:
    files = [path for package in OURS for path in (ROOT / package).rglob("*.py")]
    found = {module for path in files for module in imports(ast.parse(path.read_text(encoding="utf-8")))}
    known = {*sys.stdlib_module_names, *OURS}
    assert {module for module in found - known if extra_of(module) is None} == {"pydantic", "pydantic_core"}


@pytest.mark.parametrize("command", ["keys list", "backup there", "restore there", "migrate"])
def test_what_is_done_where_the_service_runs_says_so_elsewhere(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "sqlalchemy")
    done = CliRunner().invoke(app, command.split())
    assert (done.exit_code, "needs the extra 'api': pip install 'difftune[api]'" in done.output) == (1, True)


def test_the_doctor_finds_nothing_wrong_with_a_machine_that_only_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "sqlalchemy")
    monkeypatch.setattr(doctor, "_devices", lambda: iter(()))
    done = CliRunner().invoke(app, ["doctor"])
    assert (done.exit_code, "this machine only asks services" in done.output) == (0, True)


def test_a_service_is_not_started_without_what_its_children_need(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacking("core", "api", "cli") == []
    brought = [("torch", "core"), ("celery", "api"), ("jinja2", "report")]
    monkeypatch.setattr(extras, "_requirements", lambda: brought)
    monkeypatch.setattr(extras, "_is_installed", lambda name: name not in {"torch", "jinja2"})
    assert lacking("core", "api", "report") == ["core", "report"]
    with pytest.raises(up.StackError, match=r"pip install 'difftune\[core,report\]'"):
        up.check_extras()
