from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from sqlalchemy.orm import Session

from api.checkpoints import repository, service
from api.checkpoints.schemas import CheckpointOut, checkpoint_out
from api.checkpoints.service import Format
from api.deps import After, Limit, Order, ReadSession, ServicesDep, Tenant, WriteSession
from api.jobs.models import Checkpoint, Job
from api.objects import answers
from api.objects.answers import DownloadLink, Redirect
from api.routing import KeyedRoute
from api.schemas import Deleted, Page, page_of
from api.storage.cleaning import delete_objects
from api.subjects.repository import get

router = APIRouter(prefix="/v1", tags=["checkpoints"], route_class=KeyedRoute)
_FORMATS = (
    "`safetensors`: the weights; `diffusers`: a folder that diffusers opens, zipped; `original`: the weights "
    "for the original DiT code, refused where it would draw other images with them; `single_file`: a ControlNet as "
    "ComfyUI and A1111 read it."
)


@router.get("/fine_tuning/jobs/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str, tenant: Tenant, session: ReadSession, *, after: After = None, limit: Limit = 10, order: Order = "desc"
) -> Page[CheckpointOut]:
    """The job's checkpoints, the newest first."""
    job = get(session, Job, tenant, job_id)
    after_step = service.step_of_cursor(session, job, after) if after else None
    ascending = order == "asc"
    rows = repository.page(session, job_id, after_step=after_step, limit=limit + 1, ascending=ascending)
    last = repository.last_step(session, job_id)
    return page_of(rows, limit, lambda row: _shown(session, row, job, last))


@router.get("/checkpoints/{checkpoint_id}")
def retrieve_checkpoint(checkpoint_id: str, tenant: Tenant, session: ReadSession) -> CheckpointOut:
    """One checkpoint."""
    checkpoint = service.get(session, tenant, checkpoint_id)
    job = session.get_one(Job, checkpoint.job_id)
    return _shown(session, checkpoint, job, repository.last_step(session, job.id))


@router.delete("/checkpoints/{checkpoint_id}")
def delete_checkpoint(
    checkpoint_id: str, tenant: Tenant, used: ServicesDep, session: WriteSession, background: BackgroundTasks
) -> Deleted:
    """Delete a checkpoint and its files; refused while its job may go on from it, and for the job's result."""
    background.add_task(delete_objects, used.store, service.delete(session, tenant, checkpoint_id))
    return Deleted(id=checkpoint_id, object="fine_tuning.job.checkpoint")


@router.get("/checkpoints/{checkpoint_id}/download", response_model=DownloadLink, responses={302: {}})
def download_checkpoint(
    checkpoint_id: str,
    tenant: Tenant,
    used: ServicesDep,
    session: WriteSession,
    request: Request,
    *,
    format_: Annotated[Format, Query(alias="format", description=_FORMATS)] = "safetensors",
    redirect: Redirect = True,
) -> Response:
    """The weights, by a link that expires soon. JSON with size and sha256 for `Accept: application/json`."""
    checkpoint = service.get(session, tenant, checkpoint_id, lock="write")
    found, note = service.download(session, used.store, checkpoint, format_)
    checkpoint.linked_until = time.time() + used.settings.link_ttl_s
    redirect = redirect and "application/json" not in request.headers.get("accept", "")
    return answers.answer(used, found, f"the checkpoint {checkpoint_id}", note=note, redirect=redirect)


def _shown(session: Session, checkpoint: Checkpoint, job: Job, last_step: int | None) -> CheckpointOut:
    metrics = service.metrics_at(session, checkpoint, job)
    is_best = checkpoint.id == job.best_checkpoint
    return checkpoint_out(checkpoint, metrics=metrics, is_latest=checkpoint.step == last_step, is_best=is_best)
