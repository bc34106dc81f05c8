"""One embedded service for all that comes from outside: its processes find the packages of `docs/extending.md`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.demo.stack import DemoStack
from tests import outside
from tests.e2e.conftest import Service, image_zip

ROOT = Path(__file__).parents[2]


def method(name: str, **hyperparameters: object) -> dict[str, Any]:
    return {"type": name, name: {"hyperparameters": {"batch_size": 8, **hyperparameters}}}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them, which is on the path of no process yet."""
    folder = tmp_path_factory.mktemp("site")
    for heading in ("A metric", "A method", "A recipe", "A condition", "A model family", "A kind of work"):
        outside.install(folder, heading)
    return folder


@pytest.fixture(scope="session")
def environment(site: Path) -> Mapping[str, str]:
    """Of processes in which they are installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


@pytest.fixture(scope="package")  # its processes poll: none stays beside the tests that come after
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


@pytest.fixture(scope="package")
def dataset(service: Service) -> str:
    """A data set of three classes, for whoever needs one."""
    return service.upload(image_zip())


@pytest.fixture(scope="package")
def model(service: Service, python: Callable[..., str]) -> str:
    """A base model of the family, where an operator puts it."""
    python("-m", "my_family.make", str(service.data_dir / "models" / "my-pixels"))
    return "my-pixels"


@pytest.fixture(scope="package")
def comparison(service: Service, model: str, dataset: str) -> dict[str, Any]:
    """Two jobs of the family with equal noise, by the method and by the recipe, judged by the metric; their report."""
    own = {"recipe": "cosine", "recipe_settings": {"bound": 0.5}}
    retained = {**own, "retention_set": {"num_images": 12, "num_inference_steps": 2}}
    methods = [
        {"name": "easy_first", "method": method("curriculum", max_steps=4, spread_steps=2)},
        {"name": "tuned", "method": method("diff_tuning", max_steps=4, **retained)},
    ]
    evaluation = {"metrics": ["fid", "sharpness"], "best_metric": "sharpness_gap", "other_guidance": ["none"]}
    evaluation |= {"num_images": 16, "num_inference_steps": 2, "every_steps": 2, "holdout_fraction": 0.5}
    body = {"model": model, "training_file": dataset, "methods": methods, "seeds": [0], "evaluation": evaluation}
    answer = service.http.post("/v1/comparisons", json=body)
    assert answer.status_code == 200, answer.text
    ended = service.ended(f"/v1/comparisons/{answer.json()['id']}")
    assert ended["status"] == "succeeded", ended
    return ended


@pytest.fixture(scope="package")
def reports(service: Service, comparison: dict[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """The report and the page of each of the two jobs, by the name of its method."""
    files = {entry["method"]: service.files_of(entry["id"]) for entry in comparison["jobs"]}
    return {name: (json.loads(found["json"]), found["html"].decode()) for name, found in files.items()}


@pytest.fixture(scope="package")
def joint(service: Service, comparison: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The report and the page of the comparison."""
    files = {file["filename"].rpartition(".")[2]: file["url"] for file in comparison["reports"]}
    found = {name: service.http.get(url, follow_redirects=True) for name, url in files.items()}
    return found["json"].json(), found["html"].text


@pytest.fixture(scope="package")
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
