from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.comparisons.kind import COMPARISONS
from api.comparisons.models import Comparison
from api.datasets.states import DatasetStatus
from api.deps import Services
from api.jobs import lifecycle as jobs
from api.jobs import moves
from api.subjects.files import Result
from api.subjects.states import Status
from api.work import repository as work
from api.work.models import WorkItem
from api.work.states import Slot, WorkKind, WorkState

pytestmark = pytest.mark.both_databases

Json = dict[str, Any]
Rows = Callable[[Callable[[Session], Any]], Any]
URL = "/v1/comparisons"


@pytest.fixture
def made(compare: Callable[..., Any]) -> Json:
    answer = compare()
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def end(rows: Rows) -> Callable[..., None]:
    """End jobs as a worker does: claim, then settle."""

    def run(job_id: str, how: str = "succeeded") -> None:
        def act(session: Session) -> None:
            item = session.scalars(select(WorkItem).where(WorkItem.subject_id == job_id)).one()
            job = jobs.lock(session, job_id)
            jobs.started(session, job, attempt=1)
            if how == "succeeded":
                jobs.succeeded(session, job)
            else:
                moves.failed(session, job, code="diverged", message="the loss is no number", param=None)
            work.finish(session, item, how)

        rows(act)

    return run


@pytest.fixture
def report_item(services: Services) -> Callable[[str], WorkItem | None]:
    def find(comparison_id: str) -> WorkItem | None:
        with services.database.read() as session:
            return session.scalar(select(WorkItem).where(WorkItem.subject_id == comparison_id))

    return find


def test_it_makes_a_job_for_each_method_and_seed(client: TestClient, made: Json) -> None:
    assert made["object"] == "comparison"
    assert made["id"].startswith("cmp_")
    assert made["status"] == "queued"
    assert [(job["method"], job["seed"]) for job in made["jobs"]] == [
        ("plain", 0), ("diff", 0), ("plain", 1), ("diff", 1)]  # fmt: skip
    details = {"phase": "training", "step": 0, "total_steps": 1200, "jobs": {"queued": 4}, "cancel_requested": False}
    assert made["status_details"] == details
    listed = client.get("/v1/fine_tuning/jobs", params={"metadata[comparison]": made["id"]}).json()["data"]
    assert {job["id"] for job in listed} == {job["id"] for job in made["jobs"]}
    for job, shown in zip(sorted(listed, key=lambda job: job["id"]), made["jobs"], strict=True):
        assert job["metadata"] == {"comparison": made["id"], "comparison_method": shown["method"]}
        assert job["seed"] == shown["seed"]
        assert job["evaluation"] == made["evaluation"]


def test_methods_and_defaults_are_resolved(made: Json) -> None:
    plain, diff = (entry["method"] for entry in made["methods"])
    assert plain["supervised"]["hyperparameters"]["max_steps"] == 300
    assert diff["diff_tuning"]["hyperparameters"]["tau"] == 0.5
    assert diff["diff_tuning"]["hyperparameters"]["retention_set"]["num_images"] == 64
    assert made["evaluation"]["num_images"] == 128
    assert made["evaluation"]["every_steps"] == 150, "half way: the other method has seen as many target images"
    assert made["evaluation"]["other_guidance"] == ["none", "domain"]


def test_what_is_stated_of_the_evaluation_stays(compare: Callable[..., Any]) -> None:
    evaluation = compare(evaluation={"every_steps": None, "other_guidance": [], "num_images": 10}).json()["evaluation"]
    assert (evaluation["every_steps"], evaluation["other_guidance"], evaluation["num_images"]) == (None, [], 10)


def test_how_jobs_are_carried_out_is_every_job_s(client: TestClient, compare: Callable[..., Any]) -> None:
    ways = {"resources": {"gpus": 2}, "checkpoints": {"keep_last": 3}, "num_threads": 3}
    made = compare(**ways).json()
    jobs = [client.get(f"/v1/fine_tuning/jobs/{job['id']}").json() for job in made["jobs"]]
    for shown in (made, *jobs):
        assert (shown["resources"]["gpus"], shown["checkpoints"], shown["num_threads"]) == (2, {"keep_last": 3}, 3)


def test_gpus_that_no_batch_divides_by_are_refused(compare: Callable[..., Any], assert_problem: Any) -> None:
    answer = compare(resources={"gpus": 7})
    assert_problem(answer, 422, "batch_not_divisible", param="methods.0.method.supervised.hyperparameters.batch_size")


def test_three_seeds_are_the_default(compare: Callable[..., Any]) -> None:
    assert compare(seeds=...).json()["seeds"] == [0, 1, 2]


def test_other_tenants_see_nothing(
    client: TestClient, made: Json, stranger: dict[str, str], assert_problem: Callable[..., Json]
) -> None:
    for call, path in ((client.get, ""), (client.post, "/cancel"), (client.get, "/reports/comparison.json")):
        answer = call(f"{URL}/{made['id']}{path}", headers=stranger)
        assert_problem(answer, 404, "comparison_not_found")
    assert client.get(URL, headers=stranger).json()["data"] == []
    assert client.get(f"{URL}/{made['id']}").json()["status"] == "queued"


def test_lists_page_and_filter(client: TestClient, compare: Callable[..., Any]) -> None:
    ids = [compare(seeds=[seed]).json()["id"] for seed in range(3)]
    client.post(f"{URL}/{ids[1]}/cancel")
    page = client.get(URL, params={"limit": 2}).json()
    assert ([row["id"] for row in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = client.get(URL, params={"after": page["last_id"]}).json()
    assert [row["id"] for row in rest["data"]] == [ids[0]]
    assert len(rest["data"][0]["jobs"]) == 2
    only = client.get(URL, params={"status": "cancelled", "model": "tiny-dit"}).json()
    assert [row["id"] for row in only["data"]] == [ids[1]]
    assert client.get(URL, params={"after": "ftjob_1"}).status_code == 422


def test_it_runs_with_its_first_job_and_queues_its_report_with_the_last(
    client: TestClient, made: Json, end: Callable[..., None], report_item: Callable[[str], WorkItem | None]
) -> None:
    *others, last = (job["id"] for job in made["jobs"])
    for job_id in others:
        end(job_id)
        assert report_item(made["id"]) is None
    assert client.get(f"{URL}/{made['id']}").json()["status"] == "running"
    end(last)
    item = report_item(made["id"])
    assert item is not None
    assert (item.kind, item.slot, item.state) == (WorkKind.COMPARE, Slot.CPU, WorkState.QUEUED)
    assert client.get(f"{URL}/{made['id']}").json()["status_details"]["phase"] == "comparing"


def test_a_pair_is_enough_for_a_report(
    client: TestClient, made: Json, end: Callable[..., None], report_item: Callable[[str], WorkItem | None]
) -> None:
    first, second, third, fourth = (job["id"] for job in made["jobs"])
    end(first)
    end(second)
    end(third, "failed")
    client.post(f"/v1/fine_tuning/jobs/{fourth}/cancel")
    item = report_item(made["id"])
    assert item is not None, "the cancel of a queued job was the last end"
    assert client.get(f"{URL}/{made['id']}").json()["status"] == "running"


def test_without_a_pair_it_fails_and_says_why(
    client: TestClient, made: Json, end: Callable[..., None], report_item: Callable[[str], WorkItem | None]
) -> None:
    for job in made["jobs"]:
        end(job["id"], "succeeded" if (job["method"], job["seed"]) in {("plain", 0), ("diff", 1)} else "failed")
    shown = client.get(f"{URL}/{made['id']}").json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "too_few_runs")
    assert "diff (seed 0) failed: the loss is no number" in shown["error"]["message"]
    assert shown["finished_at"]
    assert report_item(made["id"]) is None


def test_its_message_names_three_failed_jobs_and_counts_the_others(
    client: TestClient, compare: Callable[..., Any], end: Callable[..., None]
) -> None:
    made = compare(seeds=[0, 1, 2]).json()
    for job in made["jobs"]:
        end(job["id"], "failed")
    message = client.get(f"{URL}/{made['id']}").json()["error"]["message"]
    assert message.count("failed: the loss is no number") == 3
    assert message.endswith("; and 3 more.")


def test_jobs_that_wait_for_a_data_set_fail_with_it(
    client: TestClient, compare: Callable[..., Any], add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    waiting = add_file()
    made = compare(training_file=waiting).json()
    assert made["status_details"]["jobs"] == {"validating_files": 4}
    settle(waiting, DatasetStatus.INVALID, error_code="bad", error_message="no images")
    shown = client.get(f"{URL}/{made['id']}").json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "too_few_runs")
    assert "no images" in shown["error"]["message"]


def test_cancelling_ends_all_that_waits_at_once(
    client: TestClient, made: Json, assert_problem: Callable[..., Json]
) -> None:
    shown = client.post(f"{URL}/{made['id']}/cancel").json()
    assert shown["status"] == "cancelled"
    assert shown["status_details"]["jobs"] == {"cancelled": 4}
    assert_problem(client.post(f"{URL}/{made['id']}/cancel"), 409, "comparison_not_cancellable")


def test_cancelling_waits_for_the_job_that_runs(
    client: TestClient, made: Json, rows: Rows, end: Callable[..., None], assert_problem: Callable[..., Json]
) -> None:
    done, running = made["jobs"][0]["id"], made["jobs"][1]["id"]
    end(done)

    def claim(session: Session) -> None:
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == running)).one()
        item.state, item.fence, item.lease_until = WorkState.LEASED, 1, time.time() + 60
        jobs.started(session, jobs.lock(session, running), attempt=1)

    rows(claim)
    shown = client.post(f"{URL}/{made['id']}/cancel").json()
    assert (shown["status"], shown["status_details"]["cancel_requested"]) == ("running", True)
    assert shown["status_details"]["jobs"] == {"succeeded": 1, "cancelling": 1, "cancelled": 2}
    assert_problem(client.post(f"{URL}/{made['id']}/cancel"), 409, "comparison_not_cancellable")
    rows(lambda session: moves.cancelled(session, jobs.lock(session, running)))
    assert client.get(f"{URL}/{made['id']}").json()["status"] == "cancelled"


def test_cancelling_while_its_report_waits(
    client: TestClient, made: Json, end: Callable[..., None], report_item: Callable[[str], WorkItem | None]
) -> None:
    for job in made["jobs"]:
        end(job["id"])
    assert client.post(f"{URL}/{made['id']}/cancel").json()["status"] == "cancelled"
    item = report_item(made["id"])
    assert item is not None
    assert item.state == WorkState.DONE


def test_jobs_that_were_all_cancelled_one_by_one_cancel_it(client: TestClient, made: Json) -> None:
    for job in made["jobs"]:
        client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert client.get(f"{URL}/{made['id']}").json()["status"] == "cancelled"


def test_reports_are_behind_links(
    client: TestClient, services: Services, made: Json, rows: Rows, assert_problem: Callable[..., Json]
) -> None:
    path = f"{URL}/{made['id']}/reports/comparison.json"
    assert_problem(client.get(path), 409, "report_not_ready")
    rows(lambda session: COMPARISONS.lock(session, made["id"]).set_status(Status.RUNNING))
    stored = services.store.put_stream("comparisons/x", [b"{}"])
    file = Result(stored.key, "comparison.json", 2, "0" * 64, "application/json", kind="report_json", step=0)
    rows(lambda session: COMPARISONS.succeed(session, COMPARISONS.lock(session, made["id"]), [file]))
    shown = client.get(f"{URL}/{made['id']}").json()
    assert (shown["status"], shown["status_details"]["phase"]) == ("succeeded", None)
    (report,) = shown["reports"]
    assert report["url"] == path
    answer = client.get(path)
    assert answer.status_code == 302
    assert client.get(answer.headers["location"]).content == b"{}"
    assert_problem(client.get(f"{URL}/{made['id']}/reports/other.txt"), 404, "report_not_found")


def test_an_ordinary_job_belongs_to_no_comparison(
    add_job: Callable[..., Json], end: Callable[..., None], rows: Rows
) -> None:
    end(add_job()["id"])
    assert rows(lambda session: session.scalars(select(Comparison)).all()) == []
