"""A new job by a form: the plan before it is submitted, and the same request to copy."""

from __future__ import annotations

import json
import secrets
import shlex
from dataclasses import dataclass, field
from pprint import pformat
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query, Request, Response

from api.web.backend import Backend, RefusedError
from api.web.rendering import page, to
from api.web.routing import Asking, Form, Page
from api.web.settings_form import Body, UnreadableError, body_of, fields
from difftune_core.config.methods.table import method_names

router = APIRouter(route_class=Page, include_in_schema=False, prefix="/jobs")
_JOBS = ("fine_tuning", "jobs")
_OF_OPENAI = ("model", "training_file", "validation_file", "suffix", "seed", "metadata")
_PLAIN = ("model", "training_file", "validation_file", "suffix")
_Id = Annotated[str, Query(max_length=64)]


@dataclass
class _Filled:
    """A form with what was filled in, and what came of it."""

    values: dict[str, str]
    status: int = 200
    error: str | None = None
    at: str | None = None
    """The field at fault."""
    plan: dict[str, Any] | None = None
    copies: dict[str, str] = field(default_factory=dict)


@router.get("/new")
async def new_job(
    request: Request, api: Asking, model: _Id = "", training_file: _Id = "", validation_file: _Id = ""
) -> Response:
    """The form, with what the link says filled in."""
    values = {"model": model, "training_file": training_file, "validation_file": validation_file}
    return await _shown(request, api, _Filled({**values, "once": secrets.token_hex(16)}))


@router.post("/new")
async def submit_job(request: Request, api: Asking, form: Form) -> Response:
    """Plan the job, or submit it; sent twice it is one job."""
    try:
        body = _body(form)
    except UnreadableError as error:
        return await _shown(request, api, _Filled(form, 422, str(error), error.name))
    try:
        if form.get("do") == "submit":
            made = await api.post(*_JOBS, body=body, once=form.get("once") or None)
            return to(request, f"jobs/{made['id']}")
        plan = await api.post(*_JOBS, body=body, dry_run="true")
    except RefusedError as refused:
        at = refused.problem.get("error", {}).get("param")
        return await _shown(
            request, api, _Filled(form, refused.status, str(refused), at, copies=_copies(request, body))
        )
    return await _shown(request, api, _Filled(form, plan=plan, copies=_copies(request, body)))


def _body(form: dict[str, str]) -> Body:
    method = form.get("method", method_names()[0])
    if method not in method_names():
        raise UnreadableError("method", f"The method is one of {', '.join(method_names())}.")
    plain: Body = {name: form[name] for name in _PLAIN if form.get(name)}
    body = plain | body_of(form, method)
    if more := form.get("more"):
        try:
            found = json.loads(more)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UnreadableError("more", "Further settings are an object in JSON, as in the API's request.")
        _merge(body, found)
    return body


def _merge(body: Body, more: Body) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(body.get(name), dict):
            _merge(body[name], value)
        else:
            body[name] = value


def _copies(request: Request, body: Body) -> dict[str, str]:
    """Write the request as people copy it: for curl, for Python, as YAML; none has the key."""
    url = request.app.state.services.settings.base_url
    sent = shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))
    curl = (
        f'curl -fsS {url}/v1/fine_tuning/jobs -H "Authorization: Bearer $DIFFTUNE_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' -d {sent}"
    )
    file = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    python = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{url}/v1", api_key=os.environ["DIFFTUNE_API_KEY"])\n'
        f"job = client.fine_tuning.jobs.create(**{pformat(_for_openai(body), sort_dicts=False)})\n"
    )
    return {"curl": curl, "Python, with OpenAI’s client": python, "YAML, for difftune submit --config job.yaml": file}


def _for_openai(body: Body) -> Body:
    """The body as the client's method takes it: what OpenAI does not know goes into `extra_body`."""
    known = {name: body[name] for name in _OF_OPENAI if name in body}
    return {**known, "extra_body": {name: value for name, value in body.items() if name not in known}}


async def _shown(request: Request, api: Backend, filled: _Filled) -> Response:
    models = [one for one in (await api.get("models"))["data"] if one["kind"] == "base_model"]
    datasets = (await api.get("datasets", status="ready", limit=100))["data"]
    chosen = filled.values.get("model") or (models[0]["id"] if models else "")
    known = next((one for one in models if one["id"] == chosen), None)
    return page(
        request,
        "new_job.html.j2",
        status=filled.status,
        error=filled.error,
        filled=filled,
        values=filled.values,
        models=models,
        chosen=chosen,
        datasets=datasets,
        methods=method_names(),
        settings=[(one, one.default(known["defaults"]) if known else None) for one in fields()],
    )
