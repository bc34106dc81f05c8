from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from api.deps import ServicesDep
from api.web.rendering import page
from api.web.routing import Asking, Page
from api.work.gpu_uses import lately_told
from api.work.repository import devices

router = APIRouter(route_class=Page, include_in_schema=False)
_JOBS = ("fine_tuning", "jobs")
_AT_WORK = ["running", "pausing", "resuming", "cancelling"]
_WAITING = ["queued", "validating_files", "paused"]
_MOST_AT_WORK = 12
_OVER = ["succeeded", "failed", "cancelled"]


@router.get("/")
async def overview(request: Request, api: Asking, used: ServicesDep) -> Response:
    """What is at work, what waits, what came of the last jobs."""

    async def jobs(statuses: list[str], limit: int) -> dict[str, Any]:
        found: dict[str, Any] = await api.get(*_JOBS, status=statuses, limit=limit)
        return found

    at_work = await jobs(_AT_WORK, _MOST_AT_WORK)
    newest = {
        job["id"]: (await api.get(*_JOBS, job["id"], "samples", limit=1, order="desc"))["data"]
        for job in at_work["data"]
    }
    return page(
        request,
        "overview.html.j2",
        at_work=at_work,
        samples={job_id: found[0] for job_id, found in newest.items() if found},
        waiting=await jobs(_WAITING, 10),
        over=await jobs(_OVER, 8),
        datasets=(await api.get("datasets", limit=1))["data"],
        devices=await used.units.read(request.state.principal.tenant_id, devices),
        gpus=await used.units.read(request.state.principal.tenant_id, lately_told),
    )
