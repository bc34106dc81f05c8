"""Bring a feature extractor in: convert, check, and put it under its id with a card. Run by the operator alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from difftune_core.config.card import CARD_FILE, FeatureExtractorCard
from difftune_core.families.convert.extractors import ReadExtractor, read_dinov2, read_inception
from difftune_core.families.convert.hub import fetch, pinned
from difftune_core.families.convert.request import ImportRequest
from difftune_core.files import folder_aside, sha256_file
from difftune_core.hooks import Hooks, LogEvent, OutcomeEvent, PhaseEvent, TaskError
from difftune_core.networks.state import CONFIG, WEIGHTS
from difftune_core.runtime.tensors import save_tensors

INCEPTION_LICENCE = (
    "Apache-2.0: the licence that the packages which publish this file state for it, to be checked by the operator"
)
_FOREIGN = (
    "vae", "feature_extractor", "num_heads", "input_size", "process", "num_classes", "timestep_frequencies",
)  # fmt: skip


def install_extractor(request: ImportRequest, hooks: Hooks) -> OutcomeEvent:
    """Write `<models>/<id>/` with `card.json` and `model.safetensors`, as a whole or not at all.

    Raises:
        TaskError: `model_exists`, `invalid_option`, `licence_missing`, or why the files were refused.
    """
    _check_options(request)
    final = request.models / request.id
    if final.exists():
        raise TaskError("model_exists", f"there is a model {request.id!r} in {request.models}; remove it first", "id")
    request.models.mkdir(parents=True, exist_ok=True)
    hooks.emit(PhaseEvent(phase="loading_model"))
    with tempfile.TemporaryDirectory(prefix=".import-", dir=request.models) as scratch:
        source = fetch(request.source, Path(scratch) / "source")
        read = read_inception(source) if request.kind == "inception" else read_dinov2(source)
        licence = _licence(request, read)
        hooks.emit(PhaseEvent(phase="exporting"))
        with folder_aside(final) as folder:
            _write(folder, read)
            card = _card(request, read, licence, _origin(request.source, source), sha256_file(folder / WEIGHTS))
            (folder / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for note in read.notes:
        hooks.emit(LogEvent(message=note))
    return OutcomeEvent(code="succeeded", message=f"{card.id}: {card.description}; licence: {card.licence}")


def _check_options(request: ImportRequest) -> None:
    """Options of base models are refused, and so is a resizing where there is no choice of it."""
    foreign = _FOREIGN if request.kind == "inception" else (*_FOREIGN, "resizing")
    given = sorted(request.model_fields_set & set(foreign))
    if given:
        raise TaskError(
            "invalid_option", f"a feature extractor of kind {request.kind} has no option {given[0]}", given[0]
        )


def _licence(request: ImportRequest, read: ReadExtractor) -> str:
    if request.licence is not None:
        return request.licence
    if request.kind == "inception" and read.comparable:
        return INCEPTION_LICENCE
    raise TaskError("licence_missing", "state the licence of the weights", "licence")


def _origin(named: str, found: Path) -> str:
    """Return where the weights come from, without a path of this machine."""
    if found.is_file():
        return f"{found.name}, sha256 {sha256_file(found)}"
    if Path(named).expanduser().exists():
        return f"transformers folder {found.name}, sha256 {sha256_file(found / WEIGHTS)}"
    return "@".join(pinned(named))


def _write(folder: Path, read: ReadExtractor) -> None:
    save_tensors(read.state, folder / WEIGHTS, metadata={"format": "pt"})
    if read.anatomy is None:
        return
    (folder / CONFIG).write_text(read.anatomy.model_dump_json(indent=2) + "\n", encoding="utf-8")
    from difftune_core.evaluate.dinov2 import load_dinov2

    load_dinov2(folder)  # only transformers knows which names and shapes this anatomy has


def _card(request: ImportRequest, read: ReadExtractor, licence: str, origin: str, digest: str) -> FeatureExtractorCard:
    statistics = ("running_mean", "running_var")
    return FeatureExtractorCard(
        kind=request.kind,
        id=request.id,
        description=request.description or read.description,
        licence=licence,
        source=origin,
        created_at=int(time.time()),
        num_parameters=sum(tensor.numel() for name, tensor in read.state.items() if not name.endswith(statistics)),
        digest=digest,
        comparable=read.comparable,
        resizing=request.resizing,
    )
