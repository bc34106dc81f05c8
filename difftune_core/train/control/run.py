"""The story of a ControlNet run: prepare, resume, train, judge, report, export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from difftune_core.adapters.merge import merged
from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.export_controlnet import export_controlnet
from difftune_core.checkpoint.manifest import begun_with
from difftune_core.checkpoint.save import file_info
from difftune_core.config.resolution import resolve_retention_set
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.data.copies import Copies
from difftune_core.data.decoded import Rows
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.clip_score import ClipScorer
from difftune_core.evaluate.control_judge import ControlJudge
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.forgetting import l2_from_base
from difftune_core.evaluate.report.convergence import why_none
from difftune_core.hooks import ArtifactEvent, LogEvent
from difftune_core.models.stable_diffusion import load_controlnet, new_controlnet
from difftune_core.models.text import TextTable
from difftune_core.train.control.prepare import ControlPreparation
from difftune_core.train.control.report import convergence_of, write_control_report
from difftune_core.train.control.step import ControlledData, control_step
from difftune_core.train.deliver import Delivered, delivered
from difftune_core.train.loop import Loop
from difftune_core.train.prepare import REFERENCE_SEED_OFFSET
from difftune_core.train.report import figures_event
from difftune_core.train.start import envelope_of, identity_of, name_of, take_up, tell_copies
from difftune_core.train.state import new_state


@dataclass
class ControlRun:
    """A prepared run."""

    preparation: ControlPreparation
    loop: Loop[nn.Module]
    data: ControlledData
    target: Rows
    held_out: Rows
    texts: TextTable
    copies: Copies
    _judge: ControlJudge | None = None

    def judge(self) -> ControlJudge:
        """The judge, built at the first evaluation."""
        if self._judge is None:
            self._judge = _judge_of(self)
        return self._judge

    def evaluate(self) -> None:
        """Judge the average now; its figures become metrics and part of the history."""
        judge, state = self.judge(), self.loop.state
        self.preparation.phase("evaluating")
        progress = self.preparation.progress("evaluating", judge.num_validation)
        entry = judge.judge(state.average, state.step, progress)
        entry["target_images"] = state.target_images
        entry["l2_from_base"] = l2_from_base(state.average_trainable(), _start(self.preparation, self.data.unet))
        state.history.evaluations.append(entry)
        self.loop.hooks.emit(figures_event(entry))

    def finish(self) -> None:
        """Quality, forgetting, report and export of the ControlNet that is delivered."""
        judge, result = self.judge(), delivered(self.loop, self._load)
        progress = self.preparation.progress("evaluating", judge.images_at_the_end)
        self.preparation.phase("evaluating")
        result.entry.update(judge.judge_result(result.model, progress))
        self.loop.hooks.emit(figures_event(result.entry))
        first = judge.num_images + len(judge.source_images)
        references = judge.references(lambda done: progress(first + done))
        self._tell_convergence()
        self.preparation.phase("exporting")
        out = self.preparation.folders.out
        write_control_report(self, references, out, result)
        self._export(result, out)
        step = self.loop.state.step
        for kind, name in (("report_json", "report.json"), ("report_html", "report.html"), ("samples", "samples.png")):
            self._announce(kind, out / name, step)

    def _tell_convergence(self) -> None:
        found, control = convergence_of(self), self.preparation.control
        if found.step is None:
            why = why_none(found.reason, found.confidence, found.share)
            message = f"no sudden convergence of the condition {control.condition}: {why}"
        else:
            message = f"sudden convergence at step {found.step}, confidence {found.confidence:.3f}"
        self.loop.hooks.emit(LogEvent(message=message))

    def _export(self, result: Delivered[nn.Module], out: Path) -> None:
        base, config = self.preparation.base, self.preparation.config
        card = {
            "base_model": base.card.id,
            "base_digest": base.card.digest,
            "condition": self.preparation.control.condition,
            "method": config.method.model_dump(mode="json"),
            "step": result.step,
            "licence": base.card.licence,
        }
        folder, single = export_controlnet(merged(result.model), out, card=card)
        self._announce("export_diffusers", folder, result.step)
        self._announce("export_single_file", single, result.step)

    def _announce(self, kind: str, path: Path, step: int) -> None:
        file = file_info(path, self.preparation.folders.out)
        self.loop.hooks.emit(ArtifactEvent.model_validate({"kind": kind, "step": step, "file": file}))

    def _load(self, checkpoint: Path) -> nn.Module:
        return load_controlnet(checkpoint, self.preparation.device)


def prepare_control(preparation: ControlPreparation) -> ControlRun:
    """Everything up to the first step, or to the step that a checkpoint holds.

    Raises:
        TaskError: what is missing or does not fit, before anything is trained.
    """
    config, base, folders = preparation.config, preparation.base, preparation.folders
    preparation.extractor_folders()  # what is missing ends the run now, not at its first evaluation
    _ = preparation.annotator, preparation.clip_folder
    preparation.phase("loading_model")
    checkpoints = folders.out / "checkpoints"
    target, held_out = preparation.rows(begun_with(checkpoints))
    copies = tell_copies(preparation.hooks, target, held_out, "caption")
    texts = preparation.texts(_both(target, held_out))
    data = preparation.controlled_data(target, texts)
    model = new_controlnet(data.unet, preparation.init_from, preparation.device, seed=config.seed)
    state = new_state(model, config.method.hyperparameters, seed=config.seed)
    caches = {
        "target_latents": data.target.latents.digest,
        "retention_latents": data.retention.latents.digest if data.retention is not None else None,
    }
    checkpoints.mkdir(parents=True, exist_ok=True)
    loop = Loop(
        config,
        state,
        advance=lambda: control_step(state, config, data),
        hooks=preparation.hooks,
        checkpoints=checkpoints,
        identity=identity_of(config, base, name_of(target, checkpoints)) | {"annotator": preparation.drawn_by},
        envelope=envelope_of(config, caches),
        evaluate=lambda: run.evaluate(),
    )
    take_up(loop)
    run = ControlRun(preparation, loop, data, target, held_out, texts, copies)
    return run


def _both(target: Rows, held_out: Rows) -> list[str]:
    return [*target.captions, *held_out.captions]


def _start(preparation: ControlPreparation, unet: Any) -> nn.Module:
    """The ControlNet as it was before the first step, made anew: it is a function of base and config."""
    seed = preparation.config.seed
    model = new_controlnet(unet, preparation.init_from, preparation.device, seed=seed)
    return adapt(model, preparation.config.method.hyperparameters.adapter, seed=seed)


def _judge_of(run: ControlRun) -> ControlJudge:
    preparation, texts = run.preparation, run.texts
    defaults = resolve_retention_set(RetentionSetConfig(), preparation.base.card)
    changes = {
        "seed": defaults.seed + REFERENCE_SEED_OFFSET,
        "num_images": preparation.config.evaluation.num_images,
        "prompt": preparation.control.default_prompt,
    }
    settings = defaults.model_copy(update=changes)
    source = preparation.retained(settings, "drawing_base_model_images")
    sampling = settings.model_dump(include={"sampler", "num_inference_steps", "guidance_scale", "seed"})
    return ControlJudge(
        base=preparation.stable_diffusion,
        unet=run.data.unet,
        autoencoder=preparation.autoencoder(),
        config=preparation.config.evaluation,
        control=preparation.control,
        annotator=preparation.annotator,
        clip=None if preparation.clip_folder is None else ClipScorer(preparation.clip_folder, preparation.device),
        extractors=tuple(load_extractor(f, preparation.device) for f in preparation.extractor_folders()),
        real=run.held_out.pixels,
        real_digest=run.held_out.digest,
        captions=run.held_out.captions,
        held_out=preparation.controlled(run.held_out.pixels, run.held_out, texts),
        source=preparation.controlled(source.images, None, texts),
        source_images=source.images,
        source_sampling=Sampling(**sampling),
        empty_prompt=texts.rows[""],
        device=torch.device(preparation.device),
    )
