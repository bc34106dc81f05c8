"""`difftune models remove`: an imported model out of the data folder and the object store."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from api.base_models import store as stored
from api.jobs import states as jobs
from api.jobs.states import JobStatus
from api.settings import Settings
from api.storage import StoreError, open_store
from api.subjects.states import FINAL, Status
from cli.printing import tell
from cli.service import AsJson, KeyForUrl, service
from cli.settings import failed, read_settings
from difftune.service import Service
from difftune_core.config.model_ids import MODEL_ID, named_models

_LIVE: dict[str, list[str]] = {
    "/v1/fine_tuning/jobs": sorted(set(JobStatus) - jobs.FINAL),
    "/v1/analyses": sorted(set(Status) - FINAL),
    "/v1/retention_sets": sorted(set(Status) - FINAL),
}
"""What uses a model, and the states in which it still will."""
DataDir = Annotated[Path | None, typer.Option(help="The data folder that has the model.")]
Url = Annotated[str | None, typer.Option(envvar="DIFFTUNE_URL", help="A running service to ask who uses it.")]


def remove_model(
    model: str, *, data_dir: DataDir = None, url: Url = None, key: KeyForUrl = None, as_json: AsJson = False
) -> None:
    """Remove an imported model; with --url not while work that this key sees is to use it. Its results stay."""
    if not re.fullmatch(MODEL_ID, model):
        raise failed(f"{model!r} is no id of a model")
    settings = read_settings(data_dir)
    if url:
        with service(url, key, None) as found:
            _refuse_if_used(found, model)
    folder = settings.data_dir.expanduser() / "models" / model
    in_folder, in_store = folder.is_dir(), _removed_from_store(settings, model)
    if in_folder:
        shutil.rmtree(folder)
    if not (in_folder or in_store):
        elsewhere = [str(root / model) for root in settings.model_roots if (root / model).is_dir()]
        more = f"; {elsewhere[0]} was not imported by this command" if elsewhere else ""
        raise failed(f"there is no model {model!r} in {folder.parent} or the object store{more}")
    where = " and ".join(name for name, found in ((str(folder), in_folder), ("the object store", in_store)) if found)
    tell({"id": model, "deleted": True}, f"removed {model} from {where}", as_json=as_json)


def _refuse_if_used(asked: Service, model: str) -> None:
    used_by = [
        found["id"]
        for path, states in _LIVE.items()
        for status in states
        for found in asked.pages(path, status=status, limit=100)
        if any(named.id == model for named in named_models(found))
    ]
    if used_by:
        raise failed(f"{model} is used by {', '.join(used_by)}: cancel them first")


def _removed_from_store(settings: Settings, model: str) -> bool:
    try:
        return stored.remove(open_store(settings), model)
    except (StoreError, ValueError) as error:
        raise failed(str(error)) from None
