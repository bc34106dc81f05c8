"""The story of one analysis: inputs, the chain of each checkpoint, figures, page and pictures."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int
from PIL import Image

from difftune_core.checkpoint.manifest import training_data_of
from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.decoded import Images
from difftune_core.data.pixels import pixels_digest
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.classes import TOLD, labels_to_draw
from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.frechet import frechet_difference
from difftune_core.evaluate.grids import image_grid
from difftune_core.evaluate.report.chain import HTML_FILE, JSON_FILE, PNG_FILE, write_chain_report
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.chain import ChainDrawing, Drawn, runnable
from difftune_core.families.dit.tuned import TunedCheckpoint, open_checkpoints
from difftune_core.families.preparation import Folders, Preparation
from difftune_core.families.rows import class_rows
from difftune_core.families.table import find_base_model
from difftune_core.files import build_once, file_info
from difftune_core.hooks import ArtifactEvent, Hooks, OutcomeEvent, TaskError
from difftune_core.interruption import Progress, Stopped, interruptible
from difftune_core.networks.dit import DiT
from difftune_core.runtime.caches import place_of
from difftune_core.runtime.precision import precision_on

_FORMAT = 3
_FILE = "chain.json"
_GRID = "grid.png"
_LEVEL = 0.95
_MAX_CLASSES = 10
_FILES = (("report_json", JSON_FILE), ("report_html", HTML_FILE), ("samples", PNG_FILE))


def analyse(config: ChainOfForgetting, checkpoints: Mapping[str, Path], folders: Folders, hooks: Hooks) -> OutcomeEvent:
    """Analyse as `config` says; leaves `chain.json`, `chain.html` and `chain.png` in `folders.out`.

    Args:
        config: what to analyse, resolved.
        checkpoints: name to folder.
        folders: `data` and `validation` are those that the checkpoints were trained and judged with.
        hooks: hear of progress, and say whether a stop is requested.

    Raises:
        TaskError: `checkpoint_mismatch`, `invalid_checkpoint`, `too_few_images`, `too_few_steps`, or as for training.
    """
    torch.set_num_threads(config.num_threads or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = find_base_model(config.model, folders.models)
    judged = TransferConfig(model=config.model, seed=config.seed, evaluation=config.evaluation)
    preparation = Preparation(judged, base, folders, hooks, device)
    try:
        with interruptible(hooks):
            result, grids = _Analysis.prepared(config, preparation, checkpoints).run()
    except Stopped:
        return OutcomeEvent(code="paused" if hooks.stop_requested() == "pause" else "stopped")
    write_chain_report(result, grids, folders.out)
    for kind, name in _FILES:
        file = file_info(folders.out / name, folders.out)
        hooks.emit(ArtifactEvent.model_validate({"kind": kind, "file": file}))
    return OutcomeEvent(code="succeeded")


@dataclass
class _Analysis:
    """Everything that the checkpoints of an analysis have in common."""

    config: ChainOfForgetting
    shares: list[float]
    """Fractions as whole steps of the chain make them."""
    preparation: Preparation
    checkpoints: list[TunedCheckpoint]
    class_names: tuple[str, ...]
    held_out: Images
    drawing: ChainDrawing
    base_model: DiT
    _alone: Drawn | None = None

    @classmethod
    def prepared(
        cls, config: ChainOfForgetting, preparation: Preparation, checkpoints: Mapping[str, Path]
    ) -> _Analysis:
        preparation.phase("loading_model")
        base, evaluation = preparation.base, preparation.config.evaluation
        if not isinstance(base, DiTModel):
            raise TaskError("model_mismatch", f"{base.card.id!r} is no DiT", "model")
        begun_with = next((training_data_of(folder) for folder in checkpoints.values()), None)
        target, held_out, class_names = class_rows(preparation, begun_with)
        names = (target.digest, target.earlier_digest)
        opened = open_checkpoints(checkpoints, base, training_data=names, num_classes=len(class_names))
        drawing = ChainDrawing(
            sampling=Sampling.of(evaluation),
            num_images=evaluation.num_images,
            num_examples=min(len(class_names), _MAX_CLASSES, evaluation.num_images),
            autoencoder=preparation.autoencoder,
            extractor=load_extractor(preparation.extractor_folders()[0], preparation.device),
            precision=precision_on(preparation.device, preparation.config.resources.precision),
        )
        model = base.load_dit(preparation.device).eval()
        shares = runnable(config.fractions, drawing.sampling, model.config)
        return cls(config, shares, preparation, opened, class_names, held_out, drawing, model)

    def run(self) -> tuple[dict[str, Any], dict[str, Image.Image]]:
        """The result and a grid for each checkpoint, rows by share, columns by class."""
        self.preparation.phase("evaluating")
        real = self.drawing.extractor(self.held_out.pixels)
        found: list[dict[str, Any]] = []
        grids: dict[str, Image.Image] = {}
        for number, checkpoint in enumerate(self.checkpoints):
            folder = self._chain_folder(checkpoint, number, real)
            points = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            with Image.open(folder / _GRID, formats=["PNG"]) as grid:
                grid.load()
                grids[checkpoint.name] = grid
            described = {"name": checkpoint.name, "step": checkpoint.step, "digest": checkpoint.digest}
            found.append({**described, "points": points, "minimum": minimum(points)})
        about = self.preparation.folders.about.model_dump(exclude_defaults=True)
        return {"about": about, **self._described(), "checkpoints": found}, grids

    def _chain_folder(self, checkpoint: TunedCheckpoint, number: int, real: Float32[np.ndarray, "n d"]) -> Path:
        """The chain of one checkpoint, drawn once for all analyses that ask for the same."""
        inputs = {
            "format": _FORMAT,
            "checkpoint": checkpoint.contents,
            "fractions": self.shares,
            "recipe": self._recipe(),
            "extractor": self.drawing.extractor.contents,
            "base": self.preparation.base.card.digest,
            "held_out": pixels_digest(self.held_out.pixels),
            "num_examples": self.drawing.num_examples,
            **self.drawing.precision.told(),
        }

        def build(folder: Path) -> None:
            drawn = self._drawn(checkpoint, number)
            points = chain_points(self.shares, drawn, real)
            (folder / _FILE).write_text(json.dumps(points), encoding="utf-8")
            examples = np.concatenate([of_share.examples for of_share in drawn])
            image_grid(examples, self.drawing.num_examples).save(folder / _GRID)

        return build_once(place_of(self.preparation.folders.cache, "chains", inputs), build)

    def _drawn(self, checkpoint: TunedCheckpoint, number: int) -> list[Drawn]:
        fractions, count = self.shares, self.drawing.num_images
        of_one = len(fractions) * count
        report = self.preparation.progress("evaluating", of_one * len(self.checkpoints))
        mixed = [share for share in fractions if share < 1]
        model = checkpoint.load(self.preparation.device)
        drawn = self.drawing.chain(
            model, self.base_model, self._labels(), mixed, lambda done: report(number * of_one + done)
        )
        if len(mixed) < len(fractions):
            drawn.append(self._base_alone(lambda done: report(number * of_one + len(mixed) * count + done)))
        return drawn

    def _labels(self) -> Int[torch.Tensor, " n"]:
        judged = self.preparation.config.evaluation
        return labels_to_draw(
            judged.class_distribution,
            self.held_out.labels,
            judged.num_images,
            num_classes=len(self.class_names),
            seed=judged.seed,
        )

    def _base_alone(self, progress: Progress) -> Drawn:
        """The end of every line: where all is handed over it does not matter from whom."""
        if self._alone is None:
            self._alone = self.drawing.alone(self.base_model, progress)
        return self._alone

    def _recipe(self) -> dict[str, Any]:
        return {
            "feature_extractor": self.drawing.extractor.id,
            "feature_extractor_digest": self.drawing.extractor.digest,
            "num_generated": self.drawing.num_images,
            "num_real": len(self.held_out.pixels),
            "reference_set_digest": self.held_out.digest,
            "sampling": asdict(self.drawing.sampling),
            "weights": "ema",
            "class_distribution": TOLD[self.preparation.config.evaluation.class_distribution],
            "base_model_labels": "null",
        }

    def _described(self) -> dict[str, Any]:
        base: BaseModel = self.preparation.base
        return {
            "schema_version": 1,
            "type": self.config.type,
            "base_model": {"id": base.card.id, "digest": base.card.digest},
            "class_names": list(self.class_names),
            "fractions": self.shares,
            "comparable_with_published": self.drawing.extractor.comparable,
            "recipe": self._recipe(),
            "environment": {
                "torch": torch.__version__,
                "python": platform.python_version(),
                "device": str(self.preparation.device),
                **self.drawing.precision.told(),
                "threads": torch.get_num_threads(),
            },
        }


def chain_points(
    fractions: Sequence[float], drawn: Sequence[Drawn], real: Float32[np.ndarray, "n d"]
) -> list[dict[str, Any]]:
    """FID and KID at each share, and the difference in FID to the first share, paired by noise.

    Raises:
        TaskError: `too_few_images`.
    """
    points: list[dict[str, Any]] = []
    for fraction, of_share in zip(fractions, drawn, strict=True):
        point = {"fraction": fraction, "base_steps": of_share.steps, **compare(real, of_share.features)}
        if points:
            change = frechet_difference(real, drawn[0].features, of_share.features)
            point["fid_change"], point["fid_change_se"] = change.value, change.se
            point["fid_change_interval"], point["fid_change_se_method"] = list(change.interval), change.method
        points.append(point)
    return points


def minimum(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The share with the lowest FID, and whether it lies below the tuned model alone beyond the error.

    `worse_from` is the smallest share at which FID lies above it beyond the error, None where there is none. The lowest
    of many is low by chance too: the level of 95 % is that of all comparisons together (Bonferroni).
    """
    factor = NormalDist().inv_cdf(1 - (1 - _LEVEL) / 2 / (len(points) - 1))
    worse = [p["fraction"] for p in points[1:] if p["fid_change"] - factor * p["fid_change_se"] > 0]
    best = min(points, key=lambda point: point["fid"])
    change = best.get("fid_change", 0.0)
    error = factor * best.get("fid_change_se", 0.0)
    return {
        "fraction": best["fraction"],
        "fid": best["fid"],
        "fid_change": change,
        "fid_change_interval": [change - error, change + error],
        "is_below_tuned": bool(change + error < 0),
        "worse_from": min(worse, default=None),
    }
