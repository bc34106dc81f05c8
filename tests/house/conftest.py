"""One embedded service for all that comes from outside: its processes find the packages of `docs/extending.md`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cli.demo.stack import DemoStack
from tests import outside
from tests.e2e.conftest import Service

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them, which is on the path of no process yet."""
    folder = tmp_path_factory.mktemp("site")
    for heading in ("A metric", "A recipe", "A condition", "A model family", "A kind of work"):
        outside.install(folder, heading)
    return folder


@pytest.fixture(scope="session")
def environment(site: Path) -> Mapping[str, str]:
    """Of processes in which they are installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


@pytest.fixture(scope="session")
def service(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """API, worker and sweep, as `difftune up` starts them."""
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    quick = {"DIFFTUNE_HEARTBEAT_S": "1", "DIFFTUNE_SWEEP_S": "1", "DIFFTUNE_POLL_S": "0.2"}
    with pytest.MonkeyPatch.context() as patch:  # for the stack alone: other tests of this process come between
        for name, value in {**environment, **quick}.items():
            patch.setenv(name, value)
        stack = DemoStack(data_dir).__enter__()
    try:
        running = Service(stack, data_dir)
        yield running
        running.http.close()
        running.client.close()
    finally:
        stack.__exit__(None, None, None)


@pytest.fixture(scope="session")
def python(environment: Mapping[str, str]) -> Callable[..., str]:
    """Run `python ...` where they are installed, and what lies in `path`; what it printed."""

    def run(*arguments: str, path: Path | None = None) -> str:
        more = {"PYTHONPATH": os.pathsep.join([str(path), environment["PYTHONPATH"]])} if path else {}
        command, found = [sys.executable, *arguments], {**environment, **more}
        done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def objects(python: Callable[..., str], service: Service) -> Callable[[str], set[str]]:
    """What lies in the store below a prefix once the sweep has collected all that no row names, however young."""
    code = (
        "import sys; from pathlib import Path; from api.db import Database; from api.settings import Settings;"
        "from api.storage import open_store; from worker.collect import collect;"
        "settings = Settings(data_dir=Path(sys.argv[1])); store = open_store(settings);"
        "collect(Database(settings.database), store, grace_s=-1.0);"
        "print(*(found.key for found in store.list(sys.argv[2])), sep='\\n')"
    )
    return lambda prefix: set(python("-c", code, str(service.data_dir), prefix).split())
