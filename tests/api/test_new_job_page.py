"""A new job by a form: its fields come from the schema, its plan and its refusals from the API."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import yaml
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Job
from api.jobs.schemas import JobCreate
from api.web.settings_form import body_of, fields

Send = Callable[..., Any]
HYPER = "method.{method}.hyperparameters."


def count(services: Services) -> int | None:
    with services.database.read() as session:
        return session.scalar(select(func.count()).select_from(Job))


def test_fields_have_their_kind_limits_and_meaning_from_the_schema() -> None:
    by_name = {field.name: field for field in fields()}
    rate = by_name[HYPER + "learning_rate"]
    assert (rate.kind, rate.limits) == ("number", "more than 0, at most 1")
    assert rate.meaning == "AdamW's learning rate, the highest of the run."
    assert "lora" in by_name[HYPER + "adapter.type"].choices
    assert by_name[HYPER + "horizontal_flip"].choices == ("true", "false")
    assert by_name["control.condition"].choices[0] == "edge"
    assert all(field.meaning for field in fields())


def test_what_a_form_states_is_what_a_job_takes() -> None:
    given = {HYPER + "max_steps": "20", HYPER + "learning_rate": "1e-4", HYPER + "adapter.type": "lora", "seed": "3"}
    body = body_of(given | {HYPER + "epochs": ""}, "diff_tuning")
    assert body["method"]["diff_tuning"]["hyperparameters"] == {
        "max_steps": 20,
        "learning_rate": 1e-4,
        "adapter": {"type": "lora"},
    }
    assert JobCreate.model_validate(body | {"model": "tiny-dit", "training_file": "ds"}).seed == 3


def test_the_plan_is_shown_and_nothing_is_stored(ready: str, send_form: Send, services: Services) -> None:
    fields = {"model": "tiny-dit", "training_file": ready, "method": "diff_tuning", HYPER + "max_steps": "20"}
    shown = send_form("/jobs/new", "/jobs/new", do="plan", **fields)
    assert shown.status_code == 200
    assert "The plan" in shown.text
    assert 'value="20"' in shown.text, "what was filled in stays"
    assert count(services) == 0
    copied = [unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", shown.text, re.DOTALL)]
    assert copied[0].startswith("curl -fsS http://127.0.0.1:8321/v1/fine_tuning/jobs")
    assert "dft_" not in "".join(copied)
    called = ast.parse(copied[1]).body[-1]
    assert "'max_steps': 20" in ast.unparse(called)
    assert yaml.safe_load(copied[2]) == {
        "model": "tiny-dit",
        "training_file": ready,
        "method": {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"max_steps": 20}}},
    }


def test_a_form_that_is_sent_twice_is_one_job(
    browser: TestClient, ready: str, send_form: Send, services: Services
) -> None:
    once = re.search(r'name="once" value="(\w+)"', browser.get("/jobs/new").text)
    assert once is not None
    fields = {"model": "tiny-dit", "training_file": ready, "do": "submit", "once": once[1], "suffix": "mine"}
    more = json.dumps({"method": {"diff_tuning": {"hyperparameters": {"max_steps": 7}}}})
    places = {send_form("/jobs/new", "/jobs/new", more=more, **fields).headers["location"] for _ in range(2)}
    assert len(places) == 1
    assert count(services) == 1
    shown = browser.get("/" + places.pop().removeprefix("../")).text
    assert "mine" in shown
    assert "of 7 steps" in shown


def test_what_is_refused_names_the_field_and_keeps_the_rest(ready: str, send_form: Send, services: Services) -> None:
    good = {"model": "tiny-dit", "training_file": ready, "do": "submit", "suffix": "kept"}
    for wrong, said in (
        ({HYPER + "max_steps": "many"}, "Max steps is a whole number, not &#39;many&#39;."),
        ({HYPER + "learning_rate": "5"}, "less than or equal to 1"),
        ({"seed": "-1"}, "greater than or equal to 0"),
        ({"more": "[1]"}, "an object in JSON"),
        ({"method": "<b>"}, "The method is one of"),
        ({"training_file": "ds_00000000000000000000000000"}, "There is no"),
    ):
        shown = send_form("/jobs/new", "/jobs/new", **{**good, **wrong})
        assert shown.status_code in {404, 422}, wrong
        assert said in shown.text, wrong
        assert 'value="kept"' in shown.text
        assert 'aria-invalid="true"' in shown.text or "method" in wrong
    assert count(services) == 0


def test_a_link_fills_the_form_in(browser: TestClient, ready: str) -> None:
    shown = browser.get(f"/jobs/new?model=ckpt_x&training_file={ready}&validation_file={ready}").text
    assert '<option value="ckpt_x" selected>' in shown
    assert shown.count(f'<option value="{ready}" selected>') == 2
