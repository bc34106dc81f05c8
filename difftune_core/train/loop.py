"""The training loop: step, log, save, evaluate, until the last step or until somebody asks to stop."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, runtime_checkable

import torch

from difftune_core.checkpoint.manifest import checkpoint_name
from difftune_core.checkpoint.save import WriteConfig, save_checkpoint
from difftune_core.checkpoint.state import Model, TrainState
from difftune_core.config.evaluation import UNMEASURED, goes_by_figures
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.config.transfer import TransferConfig
from difftune_core.evaluate.best import best_evaluation, stopped_early
from difftune_core.hooks import BestEvent, Hooks, LogEvent, MetricsEvent, PhaseEvent, ProgressEvent, StopKind
from difftune_core.train.learning_rate import learning_rate_at
from difftune_core.train.step import StepResult, is_logged

_KEPT = 2  # whole checkpoints on disk: the newest, and one more in case it is found corrupt


@runtime_checkable  # the tests check arguments at run time
class SampleDrawer(Protocol):
    """What draws images on the way."""

    def due(self, step: int) -> bool:
        """Return whether images of this step are wanted and not there yet."""
        ...

    def draw(self) -> None:
        """Draw images of the state's average now."""
        ...

    def take_up(self) -> None:
        """Go on from the state's step."""
        ...

    def picture(self) -> dict[str, Any] | None:
        """Show in the report what was drawn; None where nothing was."""
        ...


@dataclass
class Loop(Generic[Model]):
    """One attempt at a run."""

    config: TransferConfig
    state: TrainState[Model]
    advance: Callable[[], StepResult]
    """One optimizer step."""
    hooks: Hooks
    checkpoints: Path
    identity: dict[str, Any]
    envelope: dict[str, Any]
    evaluate: Callable[[], None]
    """Judges the state's average now and adds to its history."""
    write_config: WriteConfig
    """Writes `config.json` beside a checkpoint's weights."""
    samples: SampleDrawer | None = None
    """Images that are drawn on the way; None draws none."""
    _window: list[StepResult] = field(default_factory=list)
    _saved: int | None = None
    """Step of the newest checkpoint that this attempt saved."""

    def run(self) -> StopKind | None:
        """Train to the last step, or to where evaluations say enough; returns what stopped it before, else None."""
        hyperparameters = self.config.method.hyperparameters
        announced = False
        while True:
            step, last = self.state.step, hyperparameters.max_steps
            if self.samples is not None and self.samples.due(step):
                self._unharmed(self.samples.draw)
                announced = False
            if self._evaluation_due(step, last):
                self._judge()
                announced = False
            if step == last or self._has_enough():
                return None
            if not announced:  # at the start, and after each evaluation and each drawing
                self.hooks.emit(PhaseEvent(phase="training"))
                announced = True
            stop = self.hooks.stop_requested()
            if stop is not None:
                self.save()
                return stop
            self._advance(log=is_logged(step + 1, hyperparameters))
            step = self.state.step
            due = step % (hyperparameters.checkpoint_every_steps or last) == 0
            if due or step == last:
                self.save(is_last=step == last)

    def _judge(self) -> None:
        """Evaluate. The history knows no evaluation that has not ended: who goes on from here begins with it."""
        self._unharmed(self.evaluate)
        self._tell_unmeasured()
        self._keep_if_best()

    def _unharmed(self, act: Callable[[], None]) -> None:
        """Evaluate or draw. What breaks that off, a stop or a failure, does not cost the steps since a checkpoint.

        The weights in memory are those of the step. Only what leaves no time to save loses steps, as between two steps.
        """
        self.state.settle()
        try:
            act()
        except Exception:
            self.save()
            raise

    def _tell_unmeasured(self) -> None:
        """Say after the first evaluation what was asked for and does nothing for want of its figure."""
        settings, entries = self.config.evaluation, self.state.history.evaluations
        asked = goes_by_figures(settings)
        if not asked or len(entries) > 1 or entries[0].value(settings.best_metric) is not None:
            return
        why = f" ({'; '.join(entries[0].warnings)})" if entries[0].warnings else ""
        message = (
            f"The evaluation at step {self.state.step} has no {settings.best_metric}{why}: {asked} does nothing, and "
            "the last step is delivered, unless a later evaluation has one."
        )
        data: dict[str, str | int | float] = {"code": UNMEASURED, "metric": settings.best_metric}
        self.hooks.emit(LogEvent(level="warn", message=message, data=data | {"param": "evaluation.best_metric"}))

    def save(self, *, is_last: bool = False) -> None:
        """Save a checkpoint and forget those that are no longer needed on disk."""
        if self.state.step == 0:
            return
        self.state.settle()
        self.hooks.emit(
            save_checkpoint(
                self.state,
                self.checkpoints,
                identity=self.identity,
                envelope=self.envelope,
                write_config=self.write_config,
                is_last=is_last,
            )
        )
        self._saved = self.state.step
        best = self._best()
        kept = None if best is None else checkpoint_name(best.step)
        for folder in sorted(self.checkpoints.glob("step-*"))[:-_KEPT]:
            if folder.name != kept and self.hooks.release(folder):
                shutil.rmtree(folder)

    def tell_best(self) -> None:
        """Announce the best checkpoint so far, if there is one."""
        best, metric = self._best(), self.config.evaluation.best_metric
        if best is not None and (value := best.value(metric)) is not None:
            self.hooks.emit(BestEvent(step=best.step, metric=metric, value=value))

    def _best(self) -> Evaluation | None:
        return best_evaluation(self.state.history.evaluations, self.config.evaluation.best_metric)

    def _keep_if_best(self) -> None:
        """Save the checkpoint of this evaluation if it is the best so far, and say so."""
        best = self._best()
        if best is not None and best.step == self.state.step:
            if self._saved != self.state.step:
                self.save()
            self.tell_best()

    def _has_enough(self) -> bool:
        """Return whether the evaluations say that training ends here, with a checkpoint of this step."""
        reason = stopped_early(self.state.history.evaluations, self.config.evaluation)
        if reason is None:
            return False
        self.save(is_last=True)  # one of this step that is there already stays, and is announced as the last
        self.hooks.emit(LogEvent(message=reason))
        return True

    def _evaluation_due(self, step: int, last: int) -> bool:
        every = self.config.evaluation.every_steps
        due = step == last or (every is not None and step > 0 and step % every == 0)
        return due and not self.state.history.evaluated(step)

    def _tell_halved(self, count: int) -> None:
        """Memory was short in the step that was taken: say what goes on otherwise, here and in later checkpoints."""
        self.envelope["micro_batch"] = count
        message = (
            f"Memory was short at step {self.state.step}: from here on {count} images go through the network at once. "
            "The step is the same up to rounding."
        )
        data: dict[str, str | int | float] = {"code": "micro_batch_halved", "param": "resources.micro_batch"}
        self.hooks.emit(LogEvent(level="warn", message=message, data={**data, "micro_batch": count}))

    def _advance(self, *, log: bool) -> None:
        self._window.append(self.advance())
        if (count := self._window[-1].halved_to) is not None:
            self._tell_halved(count)
        if log:
            values = _means(self._window) | {
                "learning_rate": learning_rate_at(self.state.step - 1, self.config.method.hyperparameters),
                "target_images": float(self.state.target_images),
            }
            self._window.clear()
            self.state.history.add(self.state.step, values)
            self.hooks.emit(MetricsEvent(step=self.state.step, values=values))
            total = self.config.method.hyperparameters.max_steps
            self.hooks.emit(ProgressEvent(phase="training", done=self.state.step, total=total))


def _means(window: list[StepResult]) -> dict[str, float]:
    losses = torch.cat([r.losses for r in window]).cpu()
    is_target = torch.cat([r.is_target for r in window])
    values = {"train_loss": float(losses.mean())}
    norms = [norm for norm in torch.stack([r.grad_norm for r in window]).tolist() if math.isfinite(norm)]
    if norms:  # but for steps whose gradients went beyond float16
        values["grad_norm"] = sum(norms) / len(norms)
    if is_target.any():
        values["target_loss"] = float(losses[is_target].mean())
    if not is_target.all():
        values["retention_loss"] = float(losses[~is_target].mean())
    return values
