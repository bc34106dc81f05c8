"""Images of jobs beside each other: what each draws from one noise, what its base model does, and the data's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.deps import Services
from api.errors import NotFoundError
from api.web import dataset_items
from api.web.backend import Backend, RefusedError

_JOBS = ("fine_tuning", "jobs")
_OF_DATA = 8
Job = Mapping[str, Any]


@dataclass(frozen=True)
class Strip:
    """A row of images."""

    title: str
    images: Sequence[str]
    """Addresses, relative to the root."""
    alt: str
    """Text in the place of an image for who does not see it."""
    link: str = ""
    """Where more of it is told, relative to the root."""
    status: str = ""
    """The status of the job that draws them."""
    note: str = ""


async def strips_of(api: Backend, jobs: Sequence[tuple[str, Job]]) -> list[Strip]:
    """The last sample images of each job by its name, behind those of the base model: from one noise where noise, data
    and base model are the same.
    """
    found, bases = [], set()
    for name, job in jobs:
        noise = (job["base_model"], job["evaluation"].get("seed", job["seed"]), job["training_file"])
        first = await _sample(api, job, "asc")
        if first and first["step"] == 0 and noise not in bases:
            bases.add(noise)
            title = f"{noise[0]}, not tuned" if len({job["base_model"] for _, job in jobs}) > 1 else "Base model"
            found.append(Strip(title, [f"files/{first['id']}"], f"Images of {title}", note=f"noise of seed {noise[1]}"))
        last = await _sample(api, job, "desc")
        address, note = ([f"files/{last['id']}"], f"step {last['step']}") if last else ([], "no images were drawn")
        found.append(Strip(name, address, f"Sample images of {name}", f"jobs/{job['id']}", job["status"], note))
    return found


async def data_of(used: Services, tenant: str, api: Backend, jobs: Iterable[Job]) -> list[Strip]:
    """Some images of each data set that the jobs are judged by, or where they name none of the one they train on."""
    found = []
    judged = {job["validation_file"] or job["training_file"]: job["validation_file"] is not None for job in jobs}
    for dataset_id, is_held_out in judged.items():
        try:
            dataset = await api.get("datasets", dataset_id)
            places = await dataset_items.some(used, tenant, dataset_id, _OF_DATA)
        except (RefusedError, NotFoundError):  # it was deleted since
            continue
        title = "Held-out images" if is_held_out else "Images of the data set"
        note = "" if is_held_out else ": a share of it is held out"
        images = [f"datasets/{dataset_id}/previews/{place}" for place in places]
        if images:
            alt = f"One of the {title[0].lower()}{title[1:]}"
            found.append(Strip(title, images, alt, f"datasets/{dataset_id}", note=f"{dataset['filename']}{note}"))
    return found


async def _sample(api: Backend, job: Job, order: str) -> dict[str, Any] | None:
    found = await api.get(*_JOBS, job["id"], "samples", limit=1, order=order)
    return found["data"][0] if found["data"] else None
