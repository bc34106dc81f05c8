"""Reports of every kind: a link that a browser opens without a key, and a name that tells one from another."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.analyses.models import Analysis
from api.deps import Services
from api.jobs.models import Job
from api.subjects.models import ResultFile

Json = dict[str, Any]
PAGE, PICTURE = b"<!doctype html>", b"PNG"
NAMES = {"page.html": (PAGE, "text/html", "report_html"), "page.png": (PICTURE, "image/png", "samples")}


def fields(services: Services, owner: str, filename: str) -> Json:
    content, content_type, kind = NAMES[filename]
    key = f"{owner}/1/{filename}"
    services.store.put_stream(key, [content])
    sha256 = hashlib.sha256(content).hexdigest()
    about = {"key": key, "bytes": len(content), "sha256": sha256, "kind": kind, "created_at": time.time()}
    return {"filename": filename, "content_type": content_type, **about}


@pytest.fixture
def of_job(services: Services, add_job: Callable[..., Json], rows: Any) -> tuple[str, str]:
    job = add_job(suffix="my-flowers")

    def add(session: Session) -> None:
        for number, name in enumerate(NAMES):
            common = {"id": f"file_{number}", "tenant_id": "default", "subject_id": job["id"], "step": 1}
            session.add(ResultFile(**common, **fields(services, f"jobs/{job['id']}", name)))

    rows(add)
    return "/v1/files/file_{number}/content", f"my-flowers-{job['id']}-"


@pytest.fixture
def of_comparison(services: Services, compare: Any, rows: Any) -> tuple[str, str]:
    made = compare(suffix="which").json()["id"]

    def add(session: Session) -> None:
        for name in NAMES:
            session.add(
                ResultFile(tenant_id="default", subject_id=made, **fields(services, f"comparisons/{made}", name))
            )

    rows(add)
    return f"/v1/comparisons/{made}/reports/{{name}}", f"which-{made}-"


@pytest.fixture
def of_analysis(services: Services, add_job: Callable[..., Json], rows: Any) -> tuple[str, str]:
    job_id = add_job()["id"]

    def add(session: Session) -> None:
        about = {"type": "chain_of_forgetting", "config": {"model": "tiny-dit"}, "checkpoints": []}
        about |= {"training_file": session.get_one(Job, job_id).training_file, "created_at": 1.0}
        session.add(Analysis(id="ana_1", tenant_id="default", **about))
        session.flush()
        for name in NAMES:
            common = {"tenant_id": "default", "subject_id": "ana_1"}
            session.add(ResultFile(**common, **fields(services, "analyses/ana_1", name)))

    rows(add)
    return "/v1/analyses/ana_1/reports/{name}", "tiny-dit-ana_1-"


@pytest.mark.parametrize("kind", ["of_job", "of_comparison", "of_analysis"])
def test_a_report_opens_in_a_browser_by_a_link(
    client: TestClient, request: pytest.FixtureRequest, kind: str, stranger: dict[str, str]
) -> None:
    path, prefix = request.getfixturevalue(kind)
    for number, (name, (content, content_type, _)) in enumerate(NAMES.items()):
        url = path.format(number=number, name=name)
        assert client.get(url, headers=stranger).status_code == 404
        link = client.get(url, params={"redirect": "false"}).json()
        assert (link["filename"], link["bytes"]) == (prefix + name, len(content))
        assert link["sha256"] == hashlib.sha256(content).hexdigest()
        assert link["expires_at"] > time.time()
        shown = client.get(link["url"], headers={"authorization": ""})
        assert (shown.content, shown.headers["content-type"].partition(";")[0]) == (content, content_type)
        how = "inline" if content_type == "text/html" else "attachment"
        assert shown.headers["content-disposition"].startswith(f'{how}; filename="{prefix}{name}"')
        moved = client.get(url)
        assert (moved.status_code, client.get(moved.headers["location"]).content) == (302, content)


def test_a_data_set_has_no_link(client: TestClient, ready: str, assert_problem: Callable[..., Json]) -> None:
    answer = client.get(f"/v1/files/{ready}/content", params={"redirect": "false"})
    assert_problem(answer, 422, "no_link", param="redirect")
