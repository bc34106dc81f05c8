from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from api.errors import not_found
from api.strict import StrictRoute

router = APIRouter(route_class=StrictRoute, include_in_schema=False)
_FOLDER = Path(str(files("api.web"))) / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_ASSETS = {path.name: _TYPES[path.suffix] for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


@router.get("/static/{name}")
async def static_file(name: str) -> Response:
    """A script or style sheet of the pages. Browsers ask each time whether it has changed."""
    if name not in _ASSETS:
        raise not_found("page", name)
    return FileResponse(_FOLDER / name, media_type=_ASSETS[name], headers={"cache-control": "no-cache"})
