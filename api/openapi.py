"""`python -m api.openapi` prints what the API takes and answers, in OpenAPI (`docs/schemas/openapi.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from api.app import create_app
from api.settings import Settings


def openapi() -> str:
    """Describe the API of this version, at default settings, as an OpenAPI document in JSON."""
    with TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        app.state.services.database.close()
        return json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(openapi(), end="")  # noqa: T201  # the command's output
