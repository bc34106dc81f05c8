"""One row of the study: trained in this process, judged on the way by what the plan asks for and nothing else.

A run by `python -m difftune_core train` would also draw the null branch at each evaluation and write reports: the study
measures none of that, and takes the parts of such a run (batches, steps, judge) as they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from difftune_core.channel import SilentHooks
from difftune_core.checkpoint.average import update_average
from difftune_core.config.resolution import resolve
from difftune_core.config.sampling import Guidance
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.pixels import ImageRows, parts_of
from difftune_core.evaluate.copying import Seen, copying, repeated, small_pictures
from difftune_core.evaluate.frechet import frechet_estimate
from difftune_core.evaluate.together import AT_ONCE
from difftune_core.families.dit.chain import chain_latents
from difftune_core.families.dit.judge import DiTJudge
from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.networks.dit import DiT
from difftune_core.train.run import Run, configure, prepared
from workbench.study.plan import SHORT_AVERAGE, Row
from workbench.study.runs import made_by
from workbench.study.targets import target_archives

BUNDLED = Path(__file__).parents[2] / "difftune_core" / "weights"
_DIGITS = 4
_FEWEST_EVALUATIONS = 8
_BATCH = 64


def run_row(row: Row, folder: Path) -> dict[str, Any]:
    """Train and judge a row; its record, one line of the results.

    Args:
        row: of the plan.
        folder: where inputs and caches are.
    """
    begin, begin_cpu = time.monotonic(), time.process_time()
    inputs = folder / row.target / f"input-{row.images_per_class}-{row.seed}"
    training, held_out = target_archives(row.target, inputs, row.seed, per_class=row.images_per_class)
    out = folder / "out" / row.name.replace("/", "-")
    places = Folders(data=training, validation=held_out, models=[BUNDLED], cache=folder / "cache", out=out)
    base = find_base_model("tiny-dit", places.models)
    config = resolve(TransferConfig.model_validate(row.config), base.card, num_threads=1)
    run = prepared(config, base, places, SilentHooks(), configure(config))
    study = _Study(row, run)
    evaluations = list(study.evaluations())
    return {
        "row": row.name,
        **row.told(),
        "evaluations": evaluations,
        "at_lowest": study.at_lowest(),
        "training_set": study.training_set(),
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_seconds": round(time.process_time() - begin_cpu, 1),
        "made_by": made_by(),
    }


@dataclass
class _Lowest:
    """The weights of the evaluation with the lowest FID so far."""

    step: int = 0
    fid: float = math.inf
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


class _Study:
    """What is measured of a run on the way."""

    def __init__(self, row: Row, run: Run) -> None:
        self._row, self._run = row, run
        state = run.loop.state
        self._averages: dict[str, DiT] = {"short": deepcopy(state.average)}
        if row.long_average:
            self._averages["long"] = state.average
        self._lowest = {name: _Lowest() for name in self._averages}
        judge = run.task.judge
        assert isinstance(judge, DiTJudge), "of a DiT"
        self._judge = judge
        self._held_out, self._training = (self._seen(rows.pixels) for rows in reversed(run.task.rows))

    def evaluations(self) -> Iterator[dict[str, Any]]:
        """Train, and judge on the way; the entries in order."""
        state, row = self._run.loop.state, self._row
        decay = math.exp(-1 / SHORT_AVERAGE)
        while state.step < row.steps:
            self._run.loop.advance()
            update_average(self._averages["short"], state.model, decay)
            if state.step % row.every_steps == 0:
                yield self._evaluated(state.step)
                if self._is_far_enough(state.step):
                    return

    def at_lowest(self) -> dict[str, Any]:
        """Figures under the other guidances of each average's lowest evaluation."""
        found: dict[str, Any] = {}
        for name, lowest in self._lowest.items() if self._row.guidances else ():
            model = self._averages[name]
            model.load_state_dict(lowest.weights)
            by_guidance = {guidance: self._drawn(model, guidance) for guidance in self._row.guidances}
            found[name] = {"step": lowest.step, **by_guidance, **self._aware_of_noise(model)}
        return found

    def _aware_of_noise(self, model: DiT) -> dict[str, Any]:
        """Figures under each guidance with Noise Awareness Guidance beside it."""
        if self._row.noise_scale == 1:
            return {}
        scale = {"noise_guidance_scale": self._row.noise_scale}
        judge = replace(self._judge, config=self._judge.config.model_copy(update=scale))
        kinds: tuple[Guidance, ...] = ("cfg", *self._row.guidances)
        return {
            f"{kind}+nag": self._figures(self._seen(judge.drawn(model, judge.labels(model), guidance=kind)))
            for kind in kinds
        }

    def training_set(self) -> dict[str, Any]:
        """Return what a perfect copier scores."""
        return self._figures(repeated(self._training, self._judge.num_images, seed=self._row.seed))

    def _evaluated(self, step: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"step": step}
        for name, model in self._averages.items():
            if self._row.handovers:
                entry[name], *handed = self._handed_over(model)
                entry["handover"] = dict(zip(map(str, self._row.handovers), handed, strict=True))
            else:
                entry[name] = self._drawn(model, "cfg")
            lowest = self._lowest[name]
            if entry[name]["fid"] < lowest.fid:
                self._lowest[name] = _Lowest(step, entry[name]["fid"], self._kept(model))
        return entry

    def _kept(self, model: DiT) -> dict[str, torch.Tensor]:
        """A copy of the weights, where they are judged again at the end."""
        return {name: value.clone() for name, value in model.state_dict().items()} if self._row.guidances else {}

    def _is_far_enough(self, step: int) -> bool:
        """Return whether the run has gone far enough beyond its lowest FID, that of any average."""
        if self._row.until is None or step < _FEWEST_EVALUATIONS * self._row.every_steps:
            return False
        return all(step >= self._row.until * lowest.step for lowest in self._lowest.values())

    def _drawn(self, model: DiT, guidance: Guidance) -> dict[str, Any]:
        labels = self._judge.labels(model)
        return self._figures(self._seen(self._judge.drawn(model, labels, guidance=guidance)))

    def _handed_over(self, model: DiT) -> list[dict[str, Any]]:
        """Figures of the whole chain, and of one for each share that the base model ends."""
        judge, shares = self._judge, [0.0, *self._row.handovers]
        labels = judge.labels(model)
        parts: list[list[Seen]] = [[] for _ in shares]
        for start in range(0, len(labels), _BATCH):
            rows = labels[start : start + _BATCH]
            latents, _ = chain_latents(model, judge.base_model, rows, judge.sampling, shares, first_index=start)
            for of_share, seen in zip(latents, parts, strict=True):
                seen.append(self._seen(judge.autoencoder.decode(of_share)))
        return [self._figures(joined(seen)) for seen in parts]

    def _seen(self, images: ImageRows) -> Seen:
        extractor = self._judge.extractors[0]
        return joined([Seen(extractor(part), small_pictures(part)) for part in parts_of(images, AT_ONCE)])

    def _figures(self, drawn: Seen) -> dict[str, Any]:
        quality = frechet_estimate(self._held_out.features, drawn.features)
        of_copies = copying(self._training, self._held_out, drawn, seed=self._row.seed)
        found = {"fid": quality.value, "fid_se": quality.se} | {
            name: of_copies[name] for name in ("train_fid", "copies", "copies_se", "pixel_copies")
        }
        return {name: None if value is None else round(value, _DIGITS) for name, value in found.items()}


def joined(parts: list[Seen]) -> Seen:
    """Join all images of some parts."""
    return Seen(np.concatenate([p.features for p in parts]), np.concatenate([p.pictures for p in parts]))
