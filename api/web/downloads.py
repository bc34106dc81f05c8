"""What a page's links take away: the API's own redirects to links that expire."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.web.routing import Asking, Page

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/files/{file_id}")
async def show_file(file_id: str, api: Asking) -> Response:
    """A report or a picture, shown; anything else is saved."""
    return api.forwarded("GET", "files", file_id, "content")


@router.get("/checkpoints/{checkpoint_id}/download")
async def download_checkpoint(
    checkpoint_id: str, api: Asking, format_: Annotated[str, Query(alias="format", max_length=32)] = "safetensors"
) -> Response:
    """A checkpoint's weights."""
    return api.forwarded("GET", "checkpoints", checkpoint_id, "download", format=format_)
