"""A kind of work of another package: installed beside this one, found by its entry point, and at home everywhere."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.datasets.models import Dataset
from api.ids import new_id
from api.keys import service as keys
from api.rows import metadata
from api.settings import Settings
from api.storage import open_store
from api.subjects import kinds
from api.subjects.kinds import Kind, register
from api.subjects.references import named_keys
from api.work import repository
from api.work.models import WorkItem
from api.work.states import Slot
from migrations.run import check
from tests import outside
from worker.collect import collect
from worker.service import Worker
from worker.sweep import Sweep

COUNTS = "/v1/colour_counts"
Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package of docs/extending.md, with a child that does as it is told, in a folder of the path."""
    site = tmp_path_factory.mktemp("site")
    outside.install(site, "A kind of work")
    shutil.copy(Path(__file__).with_name("colour_words.py"), site / "colours" / "child.py")
    sys.path.insert(0, str(site))
    kinds.forget()
    yield
    sys.path.remove(str(site))
    kinds.forget()


@pytest.fixture
def settings(tmp_path: Path, migrated: Callable[[Path], None]) -> Settings:
    made = Settings(data_dir=tmp_path, gpu_slots=0, heartbeat_s=0.2, retry_delay_s=0.01, max_attempts=2)
    migrated(tmp_path)
    return made


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings)
    with app.state.services.database.write() as session:
        _, token = keys.create(session, tenant_id="t", name="test")
    with TestClient(app, headers={"authorization": f"Bearer {token}"}, follow_redirects=False) as made:
        yield made


@pytest.fixture
def count(client: TestClient) -> Callable[[bytes], Json]:
    """Have the colours of a new data set counted."""

    def ask(content: bytes) -> Json:
        used, id_ = client.app.state.services, new_id("ds")
        key = used.store.put_stream(f"datasets/{id_}/file", [content]).key
        about = {"filename": "a.txt", "purpose": "fine-tune", "status": "ready", "created_at": time.time()}
        about |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        with used.database.write() as session:
            session.add(Dataset(id=id_, tenant_id="t", parts=[{"key": key, "bytes": len(content)}], **about))
        answer = client.post(COUNTS, json={"training_file": id_})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    made = Worker(settings)
    made.start()
    yield made
    made.drain()
    made.join()


def wait(client: TestClient, made: Json, *statuses: str) -> Json:
    deadline = time.monotonic() + 60
    while (found := client.get(f"{COUNTS}/{made['id']}").json())["status"] not in statuses:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@pytest.mark.usefixtures("worker")
def test_its_work_is_done_and_its_report_is_there(client: TestClient, count: Callable[[bytes], Json]) -> None:
    made = count(b"red red blue")
    assert (made["object"], made["status"], made["progress"]) == ("colour_count", "queued", {"done": 0, "total": 0})
    done = wait(client, made, "succeeded", "failed")
    assert (done["status"], done["progress"], done["error"]) == ("succeeded", {"done": 3, "total": 3}, None)
    (report,) = done["reports"]
    assert report["url"] == f"{COUNTS}/{made['id']}/reports/count.json"
    moved = client.get(report["url"])
    assert client.get(moved.headers["location"]).json() == {"blue": 1, "red": 2}
    assert client.get("/v1/files?purpose=fine-tune-results").json()["data"] == [], "those are of jobs"


@pytest.mark.usefixtures("worker")
def test_a_child_that_is_killed_is_called_what_it_is(client: TestClient, count: Callable[[bytes], Json]) -> None:
    error = wait(client, count(b"killed"), "failed")["error"]
    assert error["code"] == "crash_loop"
    assert error["message"] == "The counting was killed by SIGKILL. 2 attempts in a row got no further."


@pytest.mark.usefixtures("worker")
def test_it_can_be_cancelled_while_it_runs(client: TestClient, count: Callable[[bytes], Json]) -> None:
    made = count(b"endless")
    wait(client, made, "running")
    assert client.post(f"{COUNTS}/{made['id']}/cancel").json()["status"] == "cancelled"
    again = client.post(f"{COUNTS}/{made['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "colour_count_not_cancellable")


def test_it_keeps_its_data_set_while_it_waits(client: TestClient, count: Callable[[bytes], Json]) -> None:
    made = count(b"red")
    dataset = f"/v1/files/{made['config']['training_file']}"
    refused = client.delete(dataset)
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert refused.json()["colour_counts"] == [made["id"]]
    client.post(f"{COUNTS}/{made['id']}/cancel")
    assert client.delete(dataset).status_code == 200


def test_its_objects_are_kept_and_what_no_row_names_is_collected(
    client: TestClient, settings: Settings, count: Callable[[bytes], Json]
) -> None:
    made, worker = count(b"red"), Worker(settings)
    worker.start()
    wait(client, made, "succeeded")
    worker.drain()
    worker.join()
    used = client.app.state.services
    lost = used.store.put_stream(f"colour_counts/{made['id']}/1/torn", [b"x"]).key
    assert collect(used.database, open_store(settings), grace_s=-1.0) == 1
    left = {info.key for info in used.store.list("colour_counts/")}
    assert lost not in left
    assert left == {f"colour_counts/{made['id']}/1/count.json"}
    with used.database.read() as session:
        assert left <= named_keys(session).keys()
    assert client.delete(f"{COUNTS}/{made['id']}").json()["object"] == "colour_count"
    assert client.get(f"{COUNTS}/{made['id']}").status_code == 404
    assert list(used.store.list("colour_counts/")) == []
    with used.database.read() as session:
        assert session.query(WorkItem).all() == []


def test_a_sweep_that_lacks_the_package_leaves_its_work_alone(
    client: TestClient, settings: Settings, count: Callable[[bytes], Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, database = count(b"red"), client.app.state.services.database
    with database.write() as session:
        taken = {"kinds": ["count_colours"], "slot": Slot.CPU, "worker_id": "lost", "lease_s": -1.0}
        assert kinds.kind_of("count_colours").admit(session, repository.claim(session, **taken))
    sweep = Sweep(settings)
    with monkeypatch.context() as without:
        without.setattr(kinds, "brought", lambda *_: [])
        kinds.forget()
        assert sweep.recover() == 0
    kinds.forget()
    assert client.get(f"{COUNTS}/{made['id']}").json()["status"] == "running"
    assert sweep.recover() == 1
    assert client.get(f"{COUNTS}/{made['id']}").json()["status"] == "queued"
    sweep.close()


def test_lists_idempotency_and_the_openapi_document(client: TestClient, count: Callable[[bytes], Json]) -> None:
    first, second = count(b"red"), count(b"blue")
    page = client.get(COUNTS, params={"limit": 1}).json()
    assert ([row["id"] for row in page["data"]], page["has_more"]) == ([second["id"]], True)
    rest = client.get(COUNTS, params={"after": page["last_id"], "status": "queued"}).json()
    assert [row["id"] for row in rest["data"]] == [first["id"]]
    sent = {"json": first["config"], "headers": {"Idempotency-Key": "once"}}
    assert client.post(COUNTS, **sent).json()["id"] == client.post(COUNTS, **sent).json()["id"]
    described = client.get("/openapi.json").json()
    assert set(described["paths"][f"{COUNTS}/{{colour_count_id}}"]) == {"get", "delete"}
    assert described["components"]["schemas"]["ColourCountOut"]["description"] == "The colours of a data set's images."


def test_its_rows_need_no_migration(settings: Settings) -> None:
    assert "subjects" in metadata.tables
    check(settings.database)


def test_two_kinds_of_one_name_are_refused() -> None:
    taken: Kind = kinds.kind_of("count_colours")
    with pytest.raises(ValueError, match="colour_counts"):
        register(taken)
    assert kinds.kind_of("count_colours") is taken


def test_an_entry_point_that_brings_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside.write(tmp_path, {"nothing/kind.py": "NOTHING = 1\n"}, kinds.GROUP, {"nothing": "nothing.kind:NOTHING"})
    monkeypatch.syspath_prepend(tmp_path)
    kinds.forget()
    with pytest.raises(RuntimeError, match=r"'nothing' of difftune\.kinds is no Owner: 1"):
        kinds.kinds()
    kinds.forget()
