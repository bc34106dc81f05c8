"""`difftune generate`: images by a base model, a job's result or a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.printing import tell
from cli.results import To, checkpoint_of, fetched
from cli.service import AsJson, DataDir, Key, Url, service
from cli.settings import failed
from cli.transfer import bars, told
from difftune.service import Service

_PATH = "/v1/images/generations"
_OVER = {"succeeded", "failed", "cancelled"}
_POLL_S = 0.5
_JOB = "ftjob_"
Model = Annotated[str, typer.Argument(help="A base model, a job (its result, else its newest checkpoint), or ckpt_...")]
What = Annotated[str | None, typer.Argument(help="The class by name or number, or the prompt; '' is no class.")]
Count = Annotated[int, typer.Option("--n", "-n", help="How many images.", min=1)]
Seed = Annotated[int | None, typer.Option(help="Of their noise; default: another one each time.", min=0)]
Base = Annotated[bool, typer.Option("--base", help="Beside each, what the base model draws from the same noise.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps; default: as the model was judged.", min=1)]
Scale = Annotated[float | None, typer.Option("--guidance-scale", help="1 is none.", min=1)]
Guide = Annotated[str | None, typer.Option("--guidance", help="cfg, domain (the base model guides) or none.")]
Control = Annotated[
    Path | None, typer.Option("--control", help="Image that a ControlNet follows.", exists=True, dir_okay=False)
]


def generate(
    model: Model,
    what: What = None,
    *,
    n: Count = 4,
    seed: Seed = None,
    base: Base = False,
    steps: Steps = None,
    guidance_scale: Scale = None,
    guidance: Guide = None,
    control_image: Control = None,
    to: To = Path(),
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Draw images and fetch them. Prints their paths."""
    stated: dict[str, Any] = {
        "prompt": what,
        "n": n,
        "seed": seed,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "guidance": guidance,
        "compare_to_base": base,
        "wait_s": 0,
    }
    with service(url, key, data_dir) as asked:
        body = {name: value for name, value in stated.items() if value is not None}
        body["model"] = checkpoint_of(asked, model) if model.startswith(_JOB) else model
        if control_image is not None:
            body["control_image"] = _uploaded(asked, control_image)
        made = _ended(asked, asked.ask(_PATH, method="POST", json=body))
        paths = [
            str(fetched(asked, image["url"], to / f"{made['id']}-{image['filename']}", image["sha256"]))
            for image in made["data"]
        ]
    tell({**made, "paths": paths}, "\n".join(paths), as_json=as_json)


def _uploaded(asked: Service, image: Path) -> str:
    form: dict[str, Any] = {"files": {"file": (image.name, image.read_bytes())}, "data": {"purpose": "vision"}}
    return str(asked.ask("/v1/files", method="POST", **form)["id"])


def _ended(asked: Service, made: dict[str, Any]) -> dict[str, Any]:
    """Wait for the images, with a bar; one that is interrupted cancels them."""
    try:
        with bars(told()) as progress:
            task = progress.add_task(f"images by {made['model']}", total=made["progress"]["total"])
            while made["status"] not in _OVER:
                time.sleep(_POLL_S)
                made = asked.ask(f"{_PATH}/{made['id']}")
                progress.update(task, completed=made["progress"]["done"])
    except KeyboardInterrupt:
        asked.ask(f"{_PATH}/{made['id']}/cancel", method="POST")
        raise failed("cancelled") from None
    if made["status"] != "succeeded":
        raise failed(made["error"]["message"] if made["error"] else f"{made['id']} was cancelled")
    return made
