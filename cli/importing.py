"""`difftune models import`: the conversion runs as a child process, which alone reads foreign weights."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from api.base_models import store as stored
from api.settings import Settings
from api.storage import ObjectStore, StoreError, open_store
from cli.printing import tell
from cli.service import AsJson
from cli.settings import failed, read_settings
from difftune_core.families.convert.request import ImportRequest
from difftune_core.hooks import LogEvent, OutcomeEvent, PhaseEvent, parse_event

_SECRET = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "ACCESS_KEY", "CREDENTIAL")
_PHASES = {"loading_model": "reading and checking the weights ...", "exporting": "writing ..."}


Source = Annotated[
    str,
    typer.Argument(
        help="An original .pt, a .safetensors, a folder of diffusers or transformers, or org/name@<40 hex digits>."
    ),
]
ModelId = Annotated[str, typer.Option("--id", help="Id of the model from now on.")]
Kind = Annotated[
    str | None,
    typer.Option(
        help="dit (default), stable-diffusion, controlnet (for control.init_from), annotator (draws depth, normal or "
        "segmentation), clip (for evaluation.clip_model), or a feature extractor for metrics: inception or dinov2."
    ),
]
Resizing = Annotated[str | None, typer.Option(help="Of inception: clean-fid (default), pytorch-fid or torch-fidelity.")]
Vae = Annotated[str | None, typer.Option(help="AutoencoderKL folder or pinned hub id; default: the pipeline's own.")]
Licence = Annotated[str | None, typer.Option(help="Licence of the weights; known for DiT-XL/2, to be checked.")]
Description = Annotated[str | None, typer.Option(help="Shown to users; default: its anatomy.")]
Extractor = Annotated[str | None, typer.Option(help="Id of the network that judges its images.")]
Heads = Annotated[int | None, typer.Option(help="Of a .pt of no published size.")]
InputSize = Annotated[int | None, typer.Option(help="Latent size of a .pt without pos_embed.")]
Process = Annotated[str | None, typer.Option(help="Of a .pt: ddpm (default), flow for SiT's checkpoints, or edm.")]
Prediction = Annotated[str | None, typer.Option(help="Of a .pt of ddpm: epsilon (default), v or x0.")]
SigmaData = Annotated[float | None, typer.Option(help="Of a .pt of edm: deviation of its latents; default 0.5.")]
Classes = Annotated[int | None, typer.Option(help="Of a diffusers folder whose label table was padded.")]
Frequencies = Annotated[str | None, typer.Option(help="Of a diffusers folder: original or diffusers (default).")]
DataDir = Annotated[Path | None, typer.Option(help="The data folder that gets the model.")]
ToStore = Annotated[bool, typer.Option("--to-store", help="Put it into the object store, for every node, instead.")]


def import_model(
    source: Source,
    *,
    model_id: ModelId,
    kind: Kind = None,
    resizing: Resizing = None,
    vae: Vae = None,
    licence: Licence = None,
    description: Description = None,
    feature_extractor: Extractor = None,
    num_heads: Heads = None,
    input_size: InputSize = None,
    process: Process = None,
    prediction: Prediction = None,
    sigma_data: SigmaData = None,
    num_classes: Classes = None,
    timestep_frequencies: Frequencies = None,
    data_dir: DataDir = None,
    to_store: ToStore = False,
    as_json: AsJson = False,
) -> None:
    """Check and convert a model to safetensors with a card, for the data folder or the store."""
    given = dict(locals())
    settings = read_settings(data_dir)
    folder = settings.data_dir.expanduser().resolve() / "models"
    store = _store_without(settings, model_id) if to_store else None
    given |= {"id": model_id, "models": folder}
    asked = {name: given[name] for name in ImportRequest.model_fields if name != "source" and given[name] is not None}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]
    outcome, status = _run([*options, "--", source], aside=as_json)
    if outcome is None or outcome.code != "succeeded":
        why = f"{outcome.message} ({outcome.code})" if outcome else f"the conversion {_end(status)} without a word"
        raise failed(f"not imported: {why}")
    where = _moved(store, folder / model_id, aside=as_json) if store is not None else f"in {folder / model_id}"
    said = f"imported {outcome.message}\n  {where}"
    tell({"id": model_id, "imported": outcome.message, "where": where}, said, as_json=as_json)


def _store_without(settings: Settings, model_id: str) -> ObjectStore:
    """Return the object store, once asked whether it has the model's id: a conversion takes long."""
    try:
        store = open_store(settings)
        taken = stored.find(store, model_id) is not None
    except (StoreError, ValueError) as error:
        raise failed(str(error)) from None
    if taken:
        raise failed(f"not imported: the object store has a model {model_id!r}; remove it first (model_exists)")
    return store


def _moved(store: ObjectStore, folder: Path, *, aside: bool) -> str:
    """Move an imported model into the store; where it is now."""
    typer.echo("uploading ...", err=aside)
    try:
        model = stored.publish(store, folder)
    except (OSError, ValueError) as error:
        raise failed(f"the model is in {folder}, but not in the object store: {error}") from None
    shutil.rmtree(folder)
    return f"in the object store, digest {model.digest}"


def _run(arguments: list[str], *, aside: bool) -> tuple[OutcomeEvent | None, int]:
    """The child's last word, None where there was none, and its exit status.

    What it tells on the way is printed, `aside` on stderr.
    """
    events, theirs = os.pipe()
    commands, ours = os.pipe()  # closed when this process ends, and the child ends with it
    pipes = [f"--events-fd={theirs}", f"--commands-fd={commands}"]
    argv = [sys.executable, "-m", "difftune_core", "import", *pipes, *arguments]
    with (
        os.fdopen(events, "rb") as lines,
        os.fdopen(ours, "wb"),
        subprocess.Popen(  # noqa: S603  # ours; nothing is read from the terminal: no library gets to ask for leave
            argv, env=_environment(), pass_fds=[theirs, commands], stdin=subprocess.DEVNULL
        ) as child,
    ):
        os.close(theirs)
        os.close(commands)
        outcome = None
        for line in lines:
            outcome = _told(line, aside=aside) or outcome
        status = child.wait()
    return outcome, status


def _told(line: bytes, *, aside: bool) -> OutcomeEvent | None:
    try:
        event = parse_event(line)
    except ValidationError:
        return None
    if isinstance(event, OutcomeEvent):
        return event
    if isinstance(event, PhaseEvent):
        typer.echo(_PHASES.get(event.phase, event.phase), err=aside)
    elif isinstance(event, LogEvent):
        typer.echo(f"note: {event.message}", err=aside)
    return None


def _environment() -> dict[str, str]:
    """Return this process's environment without what looks like a secret: the child reads files of strangers."""
    passed = {name: value for name, value in os.environ.items() if not any(part in name.upper() for part in _SECRET)}
    settings = [name for name in passed if name.upper().startswith("DIFFTUNE_")]
    return {**{n: v for n, v in passed.items() if n not in settings}, "HF_HUB_DISABLE_TELEMETRY": "1"}


def _end(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
