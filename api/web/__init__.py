"""The dashboard: pages for people, made on the server of what the REST API answers. They work without JavaScript."""

from __future__ import annotations

from fastapi import APIRouter

from api.web import assets, compare, datasets, downloads, images, jobs, login, new_job, others, overview, uploads

router = APIRouter()
for part in (assets, login, overview, new_job, jobs, datasets, images, downloads, compare, others, uploads):
    router.include_router(part.router)
