"""Swagger UI over `/openapi.json`. It needs no key, and loads nothing from others.

All addresses in it are relative, so that they hold behind a proxy that puts a path before ours.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from api.errors import not_found
from api.strict import StrictRoute

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

_BUNDLE = "fastapi_offline"  # has Swagger UI's files as a package; of its code we use nothing
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
_START = """// Requests go to where this page came from, whichever of the service's addresses that is.
const here = new URL(".", document.baseURI).href.replace(/\\/$/, "");
fetch("openapi.json").then((answer) => answer.json()).then((spec) => SwaggerUIBundle({
  spec: { ...spec, servers: [{ url: here }] },
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  validatorUrl: null,
}));
"""
_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>difftune API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<noscript>This page needs JavaScript; the same in a file: <a href="openapi.json">openapi.json</a></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_WRITTEN = {"start.js": (_START, "text/javascript")}


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Show Swagger UI."""
    return HTMLResponse(_DOCS, headers=_HEADERS)


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """A file that the pages load."""
    if name in _WRITTEN:
        text, media_type = _WRITTEN[name]
        return Response(text, media_type=media_type, headers={"cache-control": "no-cache"})
    if name not in _ASSETS:
        raise not_found("page", name)
    path = Path(str(files(_BUNDLE) / "static" / name))
    return FileResponse(path, media_type=_ASSETS[name], headers={"cache-control": "public, max-age=86400"})
