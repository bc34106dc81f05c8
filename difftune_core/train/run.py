"""The story of one training run: prepare, resume, train, judge, report, export."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.config.course import closed
from difftune_core.config.reports.evaluation import Evaluation, Judged
from difftune_core.config.reports.record import changed
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.copies import Copies
from difftune_core.evaluate.compare import check_known
from difftune_core.evaluate.forgetting import l2_from_base
from difftune_core.families.base import Task
from difftune_core.families.base_model import BaseModel
from difftune_core.families.batch import TrainingData
from difftune_core.families.preparation import Folders, Preparation
from difftune_core.families.table import family_of, find_base_model
from difftune_core.files import file_info
from difftune_core.hooks import ArtifactEvent, Hooks, LogEvent, OutcomeEvent, StopKind, TaskError
from difftune_core.interruption import Stopped, after, interruptible
from difftune_core.objectives.draws import check_is_here
from difftune_core.runtime.blocks import compile_for_drawing
from difftune_core.runtime.execution import execution_of
from difftune_core.train.blocks import prepare_blocks
from difftune_core.train.deliver import delivered
from difftune_core.train.group import spread
from difftune_core.train.loop import Loop
from difftune_core.train.report import copying_event, figures_event, write_run_report
from difftune_core.train.samples import Samples
from difftune_core.train.start import envelope_of, identity_of, name_of, take_up, tell_copies
from difftune_core.train.step import train_step

_OUTCOMES: dict[StopKind | None, str] = {None: "succeeded", "stop": "stopped", "pause": "paused"}
_REPORTS = (("report_json", "report.json"), ("report_html", "report.html"), ("samples", "samples.png"))


def train(config: TransferConfig, folders: Folders, hooks: Hooks) -> OutcomeEvent:
    """Train as `config` (resolved) says. Leaves checkpoints, report and export in `folders.out`.

    A config whose length is open is closed with the training images that are there.

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
            with spread(run.loop.config, folders, hooks, run.loop, run.task.preparation.together):
                stop = run.loop.run()
                if stop is None:
                    run.finish()
        except Stopped:  # while judging or exporting; the loop has saved its step
            return _stopped(hooks, step=run.loop.state.step)
        return OutcomeEvent(code=_OUTCOMES[stop], step=run.loop.state.step)


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
    deterministic: Any = torch.utils.deterministic  # untyped
    deterministic.fill_uninitialized_memory = False  # each buffer once more, for nobody to read
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def prepared(config: TransferConfig, base: BaseModel, folders: Folders, hooks: Hooks, device: torch.device) -> Run:
    """Do everything up to the first step, or to the step that a checkpoint holds, as each process of a run does.

    Raises:
        TaskError: what is missing or does not fit, before anything is trained.
        Stopped: a stop was requested.
    """
    execution = execution_of(config.resources, device)
    preparation = Preparation(config, base, folders, hooks, device)
    check_known(config.evaluation.metrics)  # what is missing ends the run now, not at its first evaluation
    preparation.extractor_folders()
    check_is_here(config.method)
    task = family_of(base.card).task(preparation)
    preparation.phase("loading_model")
    target, held_out = task.rows
    config = preparation.config = closed(config, len(target))
    copies = tell_copies(hooks, target, held_out, task.label)
    training = config.method.hyperparameters
    state = new_state(task.begin(), training, seed=config.seed, execution=execution)  # it may refuse the adapter
    task.tuned = state.model if preparation.beginning is None else None  # else what is frozen is a checkpoint's
    data = task.data
    preparation.rest()
    prepare_blocks(state, task.networks_beside(), config=config, data=data, hooks=hooks, cache=folders.cache)
    folders.checkpoints.mkdir(parents=True, exist_ok=True)
    loop = Loop(
        config,
        state,
        advance=lambda: train_step(state, config, data),
        hooks=hooks,
        checkpoints=folders.checkpoints,
        identity=identity_of(config, preparation, name_of(target, preparation.begun_with)) | task.identity,
        envelope=envelope_of(config, _caches_of(data), state.execution),
        evaluate=lambda: evaluate(task, state),
        write_config=task.write_config,
        samples=Samples(task, state),
    )
    take_up(loop)
    return Run(task, loop, copies)


def _caches_of(data: TrainingData) -> dict[str, str | None]:
    """Digests of what is trained on."""
    kept = data.retention_latents
    return {"target_latents": data.target_latents.digest, "retention_latents": None if kept is None else kept.digest}


def evaluate(task: Task[Any], state: TrainState[Any]) -> None:
    """Judge the average now; its figures become metrics and part of the history."""
    state.drop_gradients()
    judge, preparation = task.judge, task.preparation
    preparation.phase("evaluating")
    progress = preparation.progress("evaluating", judge.images_an_evaluation)
    try:
        with state.average_on_device():
            entry = judge.judge(state.average, state.step, progress)
        first = task.first_values(state.adapter, seed=preparation.config.seed)
        distance = l2_from_base(state.average_trainable(), first)
    finally:
        judge.rest()
    entry = changed(entry, target_images=state.target_images, l2_from_base=distance)
    state.history.evaluations.append(entry)
    preparation.hooks.emit(figures_event(entry))
    if (warning := copying_event(state.history.evaluations)) is not None:
        preparation.hooks.emit(warning)


@dataclass
class Run:
    """A run that is prepared for its first step."""

    task: Task[Any]
    loop: Loop[Any]
    copies: Copies

    def finish(self) -> None:
        """Judge, report and export the model that is delivered."""
        task, judge, hooks = self.task, self.task.judge, self.loop.hooks
        history, out = self.loop.state.history, task.preparation.folders.out
        self.loop.state.end()
        result = delivered(self.loop, task.open)
        if self.loop.state.execution.compiled:
            compile_for_drawing(result.model)
        task.preparation.phase("evaluating")
        first = judge.images_of_references
        progress = task.preparation.progress("evaluating", first + judge.images_of_the_result)
        references = {name: Judged.model_validate(found) for name, found in judge.references(progress).items()}
        further = judge.figures_of_the_result(result.model, after(first, progress))
        if further:
            result = replace(result, entry=history.complete(result.entry, further))
            hooks.emit(figures_event(Evaluation.model_validate({"step": result.step, **further})))
        for message in task.remarks(history.evaluations):
            hooks.emit(LogEvent(message=message))
        judge.rest()
        task.preparation.phase("exporting")
        exported = task.export(result, out)
        write_run_report(task, self.loop, self.copies, references, result)
        for kind, name in _REPORTS:
            self._announce(kind, out / name, self.loop.state.step)
        for kind, path in exported:
            self._announce(kind, path, result.step)

    def _announce(self, kind: str, path: Path, step: int) -> None:
        file = file_info(path, self.task.preparation.folders.out)
        self.loop.hooks.emit(ArtifactEvent.model_validate({"kind": kind, "step": step, "file": file}))
