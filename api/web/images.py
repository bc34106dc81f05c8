"""Images by a base model, a result or a checkpoint, the base model's beside them from the same noise."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from api.deps import Services, ServicesDep
from api.errors import not_found
from api.images import service
from api.images.kind import Generation
from api.objects.lost import link_to
from api.subjects.repository import get
from api.web.backend import Backend, RefusedError
from api.web.drawing import Drawer, body_of, drawer, values_of
from api.web.rendering import page, to
from api.web.routing import Asking, Form, Page
from api.web.settings_form import UnreadableError

router = APIRouter(route_class=Page, include_in_schema=False, prefix="/images")
_PLACE = ("images", "generations")
_WAIT_S = 5.0
"""A browser shows nothing while it waits; the page that follows says how far the images are."""
_LATELY, _MODELS, _CONTROLS = 8, 25, 25
_UPLOAD_HEADERS = (b"content-type", b"content-length")
_ASKED_FIRST = {"n": "4", "compare_to_base": "yes"}
_Id = Annotated[str, Query(max_length=64)]


@dataclass
class _Filled:
    """A form with what was filled in, and what came of it."""

    values: dict[str, str]
    drawn: dict[str, Any] | None = None
    status: int = 200
    error: str | None = None
    at: str | None = None
    """The field at fault."""
    once: str = field(default_factory=lambda: secrets.token_hex(16))


@router.get("")
async def ask_for_images(request: Request, api: Asking, model: _Id = "", control_image: _Id = "") -> Response:
    """The form, for the model and the control image that the address names."""
    return await _shown(request, api, _Filled({"model": model, "control_image": control_image, **_ASKED_FIRST}))


@router.post("")
async def draw(request: Request, api: Asking, form: Form) -> Response:
    """Have images drawn; sent twice they are drawn once."""
    try:
        model = await drawer(api, form.get("model", ""))
        body = {**body_of(form, model), "wait_s": _WAIT_S}
        made = await api.post(*_PLACE, body=body, once=form.get("once") or None)
    except UnreadableError as error:
        return await _shown(request, api, _Filled(form, status=422, error=str(error), at=error.name))
    except RefusedError as refused:
        if failed := refused.problem.get("generation"):  # its page says why
            return to(request, f"images/{failed}")
        at = refused.problem.get("error", {}).get("param")
        return await _shown(request, api, _Filled(form, status=refused.status, error=str(refused), at=at))
    return to(request, f"images/{made['id']}")


@router.post("/control")
async def upload_control(
    request: Request, api: Asking, model: _Id = "", token: Annotated[str, Query(max_length=128)] = ""
) -> Response:
    """Take a control image as the API does; its body is not read here."""
    del token  # was looked at before
    try:
        made = await api.send("files", headers=_UPLOAD_HEADERS)
    except RefusedError as refused:
        values = {"model": model, **_ASKED_FIRST}
        return await _shown(request, api, _Filled(values, status=refused.status, error=str(refused)))
    return to(request, "images?" + urlencode({"model": model, "control_image": made["id"]}))


@router.get("/{generation_id}")
async def show_images(generation_id: str, request: Request, api: Asking) -> Response:
    """Images that were asked for, or how far they are; and the form to ask for others."""
    drawn = await api.get(*_PLACE, generation_id)
    return await _shown(request, api, _Filled({**values_of(drawn), "model": drawn["model"]}, drawn))


@router.post("/{generation_id}/cancel")
async def cancel_images(generation_id: str, request: Request, api: Asking) -> Response:
    """End what is not final."""
    await api.post(*_PLACE, generation_id, "cancel")
    return to(request, f"images/{generation_id}")


@router.post("/{generation_id}/delete")
async def delete_images(generation_id: str, request: Request, api: Asking) -> Response:
    """Delete what is final, with its images."""
    await api.delete(*_PLACE, generation_id)
    return to(request, "images")


@router.get("/{generation_id}/{filename}")
async def show_image(
    generation_id: str, filename: str, request: Request, used: ServicesDep, *, download: bool = False
) -> Response:
    """One image, shown or saved."""
    tenant: str = request.state.principal.tenant_id
    url = await used.units.read(
        tenant, lambda session: _link(session, used, tenant, generation_id, filename, inline=not download)
    )
    return RedirectResponse(url, status_code=302)


def _link(session: Session, used: Services, tenant_id: str, generation_id: str, filename: str, *, inline: bool) -> str:
    row = get(session, Generation, tenant_id, generation_id)
    found = next((file for file in service.images(session, row.id) if file.filename == filename), None)
    if found is None:
        raise not_found("image", filename)
    return link_to(
        used.store,
        found.key,
        f"the generation {row.id}",
        expires_s=used.settings.link_ttl_s,
        filename=f"{row.id}-{filename}",
        content_type=found.content_type,
        inline=inline,
    )


async def _shown(request: Request, api: Backend, filled: _Filled) -> Response:
    bases = [one["id"] for one in (await api.get("models", kind="base_model"))["data"]]
    tuned = (await api.get("models", kind="fine_tuned", limit=_MODELS))["data"]
    model = await _model(api, filled, bases)
    needs_control = model is not None and model.is_controlled
    controls = (await api.get("files", purpose="vision", limit=_CONTROLS))["data"] if needs_control else []
    settings = request.app.state.services.settings
    return page(
        request,
        "images.html.j2",
        status=filled.status,
        error=filled.error,
        filled=filled,
        values=filled.values,
        drawn=filled.drawn,
        pairs=_pairs(filled.drawn),
        bases=bases,
        tuned=tuned,
        model=model,
        controls=controls,
        most=settings.max_images,
        lately=(await api.get(*_PLACE, limit=_LATELY))["data"],
    )


async def _model(api: Backend, filled: _Filled, bases: Sequence[str]) -> Drawer | None:
    """The model that the form is for; None where there is none, or none any more of images that are there."""
    chosen = filled.values.get("model") or (bases[0] if bases else "")
    try:
        return await drawer(api, chosen) if chosen else None
    except RefusedError:
        if filled.drawn is None:
            raise
        return None


def _pairs(drawn: dict[str, Any] | None) -> list[tuple[int, dict[str, str]]]:
    """Names of the images by their numbers and by who drew them, the base model first."""
    pairs: dict[int, dict[str, str]] = {}
    for image in sorted((drawn or {}).get("data") or [], key=lambda one: (one["index"], one["source"])):
        pairs.setdefault(image["index"], {})[image["source"]] = image["filename"]
    return list(pairs.items())
