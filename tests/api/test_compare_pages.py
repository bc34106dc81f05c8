"""Comparisons and jobs side by side: what is drawn, and sentences that claim no more than was shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.web.side_by_side import sentences
from difftune_core.config.previews import ENTRY, FOOTER, MAGIC, Entry
from difftune_core.config.reports.comparison import ComparisonReport
from difftune_core.drawing.forest import Estimate, forest_plot

Send = Callable[..., Any]
AddJob = Callable[..., dict[str, Any]]


def report(*, difference: float, interval: tuple[float, float] | None, n: int = 6, smallest_p: float = 0.03) -> Any:
    pair = {"first": "supervised", "second": "diff-tuning", "n": n, "difference": difference, "interval": interval}
    figure = {
        "label": "FID",
        "meaning": "",
        "lower_is_better": True,
        "methods": {
            "supervised": {"mean": 90.0, "low": 88.0, "high": 92.0, "n": n},
            "diff-tuning": {"mean": 90.0 + difference, "low": 80.0, "high": 85.0, "n": n},
        },
        "pairs": [pair | {"smallest_p": smallest_p}],
    }
    methods = [{"name": name, "seeds": list(range(n))} for name in ("supervised", "diff-tuning")]
    found = {"methods": methods, "seeds": list(range(n)), "paired_seeds": list(range(n)), "runs": []}
    return found | {"figures": {"fid": figure}}


def told(**given: Any) -> list[str]:
    return sentences(ComparisonReport.model_validate(report(**given)))


def test_a_sentence_says_what_the_interval_shows_and_no_more() -> None:
    assert told(difference=-8.0, interval=(-9.0, -7.0)) == [
        "FID: diff-tuning is better than supervised (95 % interval of the difference -9.000 to -7.000)."
    ]
    (unsure,) = told(difference=-8, interval=(-20, 4))
    assert "no difference between diff-tuning and supervised is shown" in unsure
    (weak,) = told(difference=8, interval=(7, 9), n=3, smallest_p=0.25)
    assert "worse" in weak
    assert weak.endswith("The exact test cannot confirm it: 3 seeds reach p = 0.25 at best.")
    assert told(difference=-8, interval=None, n=1)[0].startswith("One seed:")


def test_a_forest_plot_says_its_values_to_who_does_not_see_it() -> None:
    drawn = forest_plot("FID", [Estimate("a<b", 82.0, 78.0, 86.0), Estimate("base", 129.0)])
    assert drawn is not None
    assert 'aria-label="FID: a&lt;b 82.00, 95 % interval 78.00 to 86.00; base 129.0"' in drawn.svg
    assert drawn.svg.count("<circle") == 2
    assert drawn.svg.count('class="bar') == 1
    assert forest_plot("FID", [Estimate("a", float("nan"))]) is None


def test_a_comparison_shows_its_jobs_and_then_its_figures(
    browser: TestClient, ready: str, send_form: Send, add_result: Callable[..., str]
) -> None:
    form = {"model": "tiny-dit", "training_file": ready, "seeds": "2", "max_steps": "10"}
    made = send_form("/comparisons", "/comparisons/new", **form)
    assert made.status_code == 303, made.text
    page = "/" + made.headers["location"].removeprefix("../")
    shown = browser.get(page).text
    assert shown.count("seed 1</a>") == 2
    assert "diff-tuning against supervised" in browser.get("/comparisons").text
    add_result(
        page.rpartition("/")[2], "report_json", json.dumps(report(difference=-8.0, interval=(-9.0, -7.0))).encode()
    )
    shown = browser.get(page).text
    assert "FID: diff-tuning is better than supervised" in shown
    assert "Difference in FID: diff-tuning − supervised -8" in shown


def test_a_comparison_that_is_refused_says_why(browser: TestClient, ready: str, send_form: Send) -> None:
    for wrong in ({"seeds": "many"}, {"seeds": "0"}, {"model": "no-such"}):
        form = {"model": "tiny-dit", "training_file": ready, "seeds": "1", **wrong}
        answer = send_form("/comparisons", "/comparisons/new", **form)
        assert answer.status_code in {404, 422}
        assert 'role="alert"' in answer.text
    assert "None yet." in browser.get("/comparisons").text


def test_jobs_stand_side_by_side_with_the_base_model(
    browser: TestClient, add_job: AddJob, add_result: Callable[..., str]
) -> None:
    jobs = [add_job(suffix="same")["id"] for _ in range(2)]
    for job, fid in zip(jobs, (80.0, 90.0), strict=True):
        found = {"evaluations": [{"step": 9, "fid": fid, "fid_se": 1.0}]}
        found["references"] = {"base_model": {"fid": 129.0, "fid_se": 2.0}}
        add_result(job, "report_json", json.dumps(found).encode())
    shown = browser.get(f"/comparisons/jobs?job={jobs[0]}&job={jobs[1]}").text
    label = f"FID: same {jobs[0][-6:]} 80.00, 95 % interval 78.04 to 81.96; same {jobs[1][-6:]} 90.00"
    assert label in shown
    assert "base model 129.0, 95 % interval" in shown
    assert browser.get(f"/comparisons/jobs?job={jobs[0]}").status_code == 422


def test_nobody_compares_jobs_of_others(browser: TestClient, add_job: AddJob, stranger: dict[str, str]) -> None:
    jobs = [add_job()["id"] for _ in range(2)]
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    assert browser.get(f"/comparisons/jobs?job={jobs[0]}&job={jobs[1]}").status_code == 404


def test_images_stand_beside_those_of_the_base_model_and_of_the_data(
    browser: TestClient, services: Services, ready: str, add_job: AddJob, add_result: Callable[..., str]
) -> None:
    at = [Entry(0, 0, 4), Entry(0), Entry(0, 0, 4)]
    index = b"".join(ENTRY.pack(*one) for one in at) + FOOTER.pack(MAGIC, 3, 0)
    services.store.put_stream("previews", [b"\x89PNG", index])
    with services.database.write() as session:
        session.get_one(Dataset, ready).previews_key = "previews"
    jobs = [add_job(suffix=name)["id"] for name in ("first", "second")]
    files = [[add_result(job, "sample", b"png", step=step, filename=f"{step}.png") for step in (0, 9)] for job in jobs]
    shown = browser.get("/comparisons/jobs", params={"job": jobs}).text
    images = [f'src="../files/{id_}"' for id_ in (files[0][0], files[0][1], files[1][1])]
    images += [f'src="../datasets/{ready}/previews/{place}"' for place in (0, 2)]
    places = [shown.find(image) for image in images]
    assert min(places) > 0
    assert places == sorted(places), "the base model's first, then each job's, then the data's own that can be seen"
    assert files[1][0] not in shown, "the base model draws the same from the same noise"
    assert "Images of the data set" in shown
