"""The story of one training run: prepare, resume, train, judge, report, export."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from difftune_core.adapters.merge import merged
from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.export import export_diffusers, zip_folder
from difftune_core.checkpoint.manifest import begun_with
from difftune_core.checkpoint.save import file_info
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.copies import Copies
from difftune_core.data.decoded import Images
from difftune_core.evaluate.forgetting import l2_from_base
from difftune_core.evaluate.judge import Judge
from difftune_core.hooks import (
    ArtifactEvent,
    Hooks,
    LogEvent,
    OutcomeEvent,
    StopKind,
    TaskError,
)
from difftune_core.interruption import Stopped, interruptible
from difftune_core.models.dit import DiT
from difftune_core.models.registry import BaseModel, find_base_model, load_dit, read_dit_config
from difftune_core.models.transfer import with_classes
from difftune_core.train.deliver import Delivered, delivered
from difftune_core.train.group import spread
from difftune_core.train.loop import Loop
from difftune_core.train.prepare import Folders, Preparation
from difftune_core.train.report import figures_event, other_guidance_event, write_run_report
from difftune_core.train.start import envelope_of, identity_of, name_of, take_up, tell_copies
from difftune_core.train.state import new_state
from difftune_core.train.step import train_step

if TYPE_CHECKING:
    from difftune_core.train.control.run import ControlRun

_OUTCOMES: dict[StopKind | None, str] = {None: "succeeded", "stop": "stopped", "pause": "paused"}


def train(config: TransferConfig, folders: Folders, hooks: Hooks) -> OutcomeEvent:
    """Train as `config` (resolved) says. Leaves checkpoints, report and export in `folders.out`.

    Raises:
        difftune_core.hooks.TaskError: a failure with a reason that the user can act on.
    """
    device = configure(config)
    base = find_base_model(config.model, folders.models)
    with interruptible(hooks):
        try:
            run = prepared(config, base, folders, hooks, device)
        except Stopped:
            return _stopped(hooks, step=0)
        try:
            with spread(config, folders, hooks, run.loop):
                stop = run.loop.run()
            if stop is None:
                run.finish()
        except Stopped:  # while judging or exporting; the loop has saved its step
            return _stopped(hooks, step=run.loop.state.step)
        return OutcomeEvent(code=_OUTCOMES[stop], step=run.loop.state.step)


def prepared(
    config: TransferConfig, base: BaseModel, folders: Folders, hooks: Hooks, device: torch.device
) -> Run | ControlRun:
    """Everything up to the first step, or to the step that a checkpoint holds; the same in each process of a run.

    Raises:
        TaskError: as `train`.
        Stopped: somebody asked to.
    """
    if base.card.family == "dit":
        return _prepare(Preparation(config, base, folders, hooks, device))
    from difftune_core.train.control.prepare import ControlPreparation
    from difftune_core.train.control.run import prepare_control

    return prepare_control(ControlPreparation(config, base, folders, hooks, device))


def _stopped(hooks: Hooks, step: int) -> OutcomeEvent:
    return OutcomeEvent(code=_OUTCOMES[hooks.stop_requested()], step=step)


def configure(config: TransferConfig, rank: int = 0) -> torch.device:
    """Set torch up for the process `rank` of a run; its device.

    Raises:
        TaskError: `too_few_gpus`.
    """
    assert config.num_threads is not None, "resolved at submit"
    torch.set_num_threads(config.num_threads)
    if not torch.cuda.is_available():
        return torch.device("cpu")  # its kernels give the same bytes for the same thread count
    count, wanted = torch.cuda.device_count(), config.resources.gpus
    if count < wanted:
        raise TaskError("too_few_gpus", f"there are {count} GPUs for a job that asks for {wanted}", "resources.gpus")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


@dataclass
class Run:
    """A prepared run."""

    preparation: Preparation
    loop: Loop[DiT]
    target: Images
    held_out: Images
    class_names: tuple[str, ...]
    copies: Copies
    _judge: Judge | None = None
    _references: dict[str, Any] | None = None

    def judge(self) -> Judge:
        """The judge, built at the first evaluation."""
        if self._judge is None:
            self._judge = self.preparation.judge(self.held_out)
        return self._judge

    def evaluate(self) -> None:
        """Judge the average now; its figures become metrics and part of the history."""
        judge, state = self.judge(), self.loop.state
        self.preparation.phase("evaluating")
        progress = self.preparation.progress("evaluating", judge.images_an_evaluation)
        entry, _ = judge.judge(state.average, state.step, progress)
        entry["target_images"] = state.target_images
        entry["l2_from_base"] = l2_from_base(state.average_trainable(), self._start())
        state.history.evaluations.append(entry)
        self.loop.hooks.emit(figures_event(entry))

    def _start(self) -> DiT:
        """The model as it was before the first step, made anew: it is a function of base, config and classes."""
        hyperparameters = self.preparation.config.method.hyperparameters
        model = with_classes(self.judge().base_model, len(self.class_names), hyperparameters.label_rows)
        return adapt(model, hyperparameters.adapter, seed=self.preparation.config.seed)

    def finish(self) -> None:
        """Report and export of the model that is delivered."""
        judge, result = self.judge(), delivered(self.loop, self._load)
        references = judge.references(self.preparation.progress("evaluating", judge.images_of_references))
        self._judge_guidance(result)
        out = self.preparation.folders.out
        exported = self._export(result, out / "diffusers.zip")
        write_run_report(self, judge, references, out, result)
        step = self.loop.state.step
        for kind, name in (("report_json", "report.json"), ("report_html", "report.html"), ("samples", "samples.png")):
            self.loop.hooks.emit(
                ArtifactEvent.model_validate({"kind": kind, "step": step, "file": file_info(out / name, out)})
            )
        if exported:
            self.loop.hooks.emit(
                ArtifactEvent(kind="export_diffusers", step=result.step, file=file_info(out / "diffusers.zip", out))
            )

    def _load(self, checkpoint: Path) -> DiT:
        return load_dit(checkpoint, read_dit_config(checkpoint), self.preparation.device)

    def _judge_guidance(self, result: Delivered[DiT]) -> None:
        """The other guidances' figures, into the result's evaluation."""
        judge = self.judge()
        names = judge.other_guidance
        if not names:
            return
        self.preparation.phase("evaluating")
        progress = self.preparation.progress("evaluating", judge.config.num_images * len(names))
        result.entry["other_guidance"] = judge.judge_guidance(result.model, names, progress)
        self.loop.hooks.emit(other_guidance_event(result.entry))

    def _export(self, result: Delivered[DiT], target: Path) -> bool:
        """Whether there can be an export: DiTPipeline has no place for unmerged adapters and other processes."""
        self.preparation.phase("exporting")
        base, config = self.preparation.base, self.preparation.config
        adapter = self.loop.state.adapter
        why = None if adapter.mergeable else f"{adapter.type} is no change of weights and cannot be merged into them"
        if base.card.process != "ddpm":
            why = f"DiTPipeline cannot sample a model of the process {base.card.process!r}"
        if why is not None:
            self.loop.hooks.emit(LogEvent(level="warn", message=f"no diffusers export: {why}"))
            return False
        card = {
            "base_model": base.card.id,
            "base_digest": base.card.digest,
            "method": config.method.model_dump(mode="json"),
            "step": result.step,
            "licence": base.card.licence,
        }
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            export_diffusers(
                merged(result.model),
                base.folder / "vae",
                Path(folder),
                class_names=self.class_names,
                card=card,
                sampling=self.judge().sampling,
                listen=lambda total: self.preparation.progress("exporting", total),
            )
            zip_folder(Path(folder), target)
        return True


def _prepare(preparation: Preparation) -> Run:
    config, base, folders = preparation.config, preparation.base, preparation.folders
    preparation.extractor_folders()  # one that is missing ends the run now, not at its first evaluation
    preparation.phase("loading_model")
    checkpoints = folders.out / "checkpoints"
    target, held_out, class_names = preparation.images(begun_with(checkpoints))
    copies = tell_copies(preparation.hooks, target, held_out, "class")
    source = base.load_dit(preparation.device)
    model = with_classes(source, len(class_names), config.method.hyperparameters.label_rows)
    state = new_state(model, config.method.hyperparameters, seed=config.seed)  # first: it may refuse the adapter
    data = preparation.training_data(target, model.null_label)
    caches = {
        "target_latents": data.target.digest,
        "retention_latents": data.retention.digest if data.retention is not None else None,
    }
    checkpoints.mkdir(parents=True, exist_ok=True)
    loop = Loop(
        config,
        state,
        advance=lambda: train_step(state, config, data),
        hooks=preparation.hooks,
        checkpoints=checkpoints,
        identity=identity_of(config, base, name_of(target, checkpoints)),
        envelope=envelope_of(config, caches),
        evaluate=lambda: run.evaluate(),
    )
    take_up(loop)
    run = Run(preparation, loop, target, held_out, class_names, copies)
    return run
