"""`difftune plan --probe`: a few real steps on images of noise, so that a plan can tell how long a job will take.

The API loads no torch, and a plan must not wait in the queue of others: a probe is an ordinary job, short and with few
images, of which the service keeps the rates as of any job. It is asked for, shown and counted as what it is.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.follow import follow
from difftune.jobs import path_of
from difftune.service import Service, ServiceError
from difftune_core.config.methods.table import settings_of

METADATA = {"difftune": "probe"}
"""What a job says in its metadata that is a probe (`api.jobs.rates`)."""
_STEPS = 8
_IMAGES = 16
_DRAWN = {"num_images": 8, "num_inference_steps": 4}
_COURSE = ("epochs", "warmup_steps", "lr_schedule", "min_learning_rate")
_JUDGED = ("early_stopping", "deliver", "best_metric", "clip_model")


def probe(asked: Service, body: dict[str, Any], plan: dict[str, Any], console: Console) -> str:
    """Run a job as `body` states, but short and on images of noise, to its end; its id.

    Args:
        asked: the service.
        body: of the job that is planned.
        plan: that the service has made of it.
        console: where its progress is shown.

    Raises:
        ServiceError: the probe is refused, or does not succeed: the job would not either.
    """
    has_captions = plan["config"].get("control") is not None
    size = next(card["image_size"] for card in asked.pages("/v1/models") if card["id"] == plan["config"]["model"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.zip"
        _write_noise(path, size, has_captions=has_captions)
        data = asked.validated(asked.upload(path))["id"]
    job = asked.ask("/v1/fine_tuning/jobs", method="POST", json=shortened(body, data))
    console.print(f"{job['id']}: a probe of {_STEPS} steps", markup=False, highlight=False)
    follow(asked, {"probe": job["id"]}, console)
    done = asked.ask(path_of(job["id"]))
    if done["status"] != "succeeded":
        why = (done["error"] or {}).get("message", "")
        raise ServiceError(f"the probe {job['id']} is {done['status']}, as the job would be: {why}")
    return str(job["id"])


def shortened(body: dict[str, Any], data: str) -> dict[str, Any]:
    """A job's fields with few steps and few images; batch, precision, adapter and all that steps cost stay."""
    method = dict(body["method"])
    kind = method["type"]
    stated = dict((method.get(kind) or {}).get("hyperparameters") or {})
    hyperparameters = {name: value for name, value in stated.items() if name not in _COURSE}
    hyperparameters |= {"max_steps": _STEPS, "warmup_steps": 0, "log_every_steps": 1, "checkpoint_every_steps": _STEPS}
    retained = stated.get("retention_set", "auto")
    retains = "retention_set" in settings_of(kind).model_fields
    if retains and not (isinstance(retained, str) and retained != "auto"):
        hyperparameters["retention_set"] = (retained if isinstance(retained, dict) else {}) | _DRAWN
    evaluation = {name: value for name, value in (body.get("evaluation") or {}).items() if name not in _JUDGED}
    control = {"control": body["control"] | {"num_validation": 2}} if body.get("control") else {}
    return {
        **{name: value for name, value in body.items() if name not in {"validation_file", "samples"}},
        **control,
        "training_file": data,
        "suffix": "probe",
        "metadata": METADATA,
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "evaluation": evaluation | _DRAWN | {"every_steps": None},
        "samples": {"num_images": 0},
    }


def _write_noise(path: Path, size: int, *, has_captions: bool) -> None:
    """An archive of images of noise, in class folders or with captions."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(_IMAGES):
            file = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file, "PNG")
            name = f"{number:02d}" if has_captions else f"{'ab'[number % 2]}/{number:02d}"
            archive.writestr(f"{name}.png", file.getvalue())
            if has_captions:
                archive.writestr(f"{name}.txt", "noise")
