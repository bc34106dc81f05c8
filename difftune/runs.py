"""A run that was trained in this process, as its folder has it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from difftune.board import named_figures
from difftune.drawing import drawn, write_drawn
from difftune.judging import evaluate
from difftune_core.checkpoint.manifest import Manifest, checkpoint_name, newest_whole, stated
from difftune_core.checkpoint.state import History
from difftune_core.config.reports.run import RunReport
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError
from difftune_core.train.report import figures_event

CONFIG = "run.json"
_REPORT, _PAGE = "report.json", "report.html"


@dataclass(frozen=True, repr=False)
class Run:
    """What a training has made."""

    folder: Path
    config: TransferConfig
    """The config, resolved: what a service stores of a job."""
    checkpoint: Path
    """Folder of the checkpoint that is the result; of a run that was stopped, the newest."""
    models: Sequence[Path] = ()
    """Folders of base models."""

    def __repr__(self) -> str:
        """Tell the run's folder and how it ended."""
        return f"Run({str(self.folder)!r}, {self.status!r})"

    @property
    def status(self) -> str:
        """How the run ended: `succeeded`, or `stopped` before its end."""
        return "stopped" if self.report is None else "succeeded"

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return self._manifest.step

    @property
    def report(self) -> Path | None:
        """The page of the run's report; None for a run that was stopped."""
        page = self.folder / _PAGE
        return page if page.is_file() else None

    @property
    def exports(self) -> list[Path]:
        """Archives of the result that open in other programs, such as diffusers."""
        return sorted(self.folder.glob("*.zip"))

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the result by name, as the service's jobs have them: `fid`, `kid`, `train_loss` and so on."""
        logged = {
            name: value for name, points in self._history.curves.items() for at, value in points if at == self.step
        }
        judged = [entry for entry in self._evaluations if entry.step == self.step]
        return named_figures(logged | (figures_event(judged[-1]).values if judged else {}))

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """All that was measured, by name: pairs of step and value."""
        found = {name: list(points) for name, points in self._history.curves.items()}
        for entry in self._evaluations:
            for name, value in named_figures(figures_event(entry).values).items():
                found.setdefault(name, []).append((entry.step, value))
        return dict(sorted(found.items()))

    @property
    def images(self) -> dict[int, Image.Image]:
        """Sample images by step, 0 being the base model: the same noise each time."""
        pictures = sorted((self.folder / "samples").glob("step-*.png"))
        return {int(path.stem.removeprefix("step-")): Image.open(io.BytesIO(path.read_bytes())) for path in pictures}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label; empty for a run that was stopped, and where captions are drawn."""
        return () if self._told is None else self._told.dataset.class_names

    def sample(
        self,
        what: str | int | None = None,
        n: int = 4,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        control: str | Path | Image.Image | None = None,
    ) -> list[Image.Image]:
        """Draw images with the result.

        Args:
            what: a class by its name or number, or None for none; of a ControlNet the prompt.
            n: how many.
            seed: images of equal seeds begin with equal noise, whatever the run.
            steps: of the sampler; default: as the run was judged.
            guidance: scale of the guidance; default: as the run was judged.
            control: the image that a ControlNet follows, or its path; None: it follows none.

        Raises:
            TaskError: there is no such class, what is said is not for the model, or the control cannot be read.
        """
        return drawn(self, what, n, seed=seed, steps=steps, guidance=guidance, control=control)

    def evaluate(self, real: str | Path, *, n: int = 256, seed: int = 0, **options: Any) -> dict[str, Any]:
        """Draw images of all classes in turn and compute FID, KID and others of them against `real`.

        Args:
            real: an archive or a folder of images.
            n: how many are drawn.
            seed: of their noise.
            options: `metrics` and `extractors`, as for `difftune.evaluate`.

        Raises:
            TaskError: why not, as `sample` and `difftune.evaluate`.
        """
        with tempfile.TemporaryDirectory() as place:
            write_drawn(self, Path(place), n, seed=seed)
            return evaluate(real, place, **options)

    @cached_property
    def _told(self) -> RunReport | None:
        path = self.folder / _REPORT
        return RunReport.model_validate_json(path.read_bytes()) if path.is_file() else None

    @cached_property
    def _manifest(self) -> Manifest:
        found = stated(self.checkpoint)
        assert found is not None, "opened by it"
        return found

    @cached_property
    def _history(self) -> History:
        """All that was logged: the newest checkpoint has it, which need not be the result."""
        newest = newest_whole(self.folder / "checkpoints")
        return History.of((newest[1] if newest else self._manifest).history)

    @property
    def _evaluations(self) -> Sequence[Any]:
        return self._history.evaluations if self._told is None else self._told.evaluations


def open_run(folder: str | Path, *, models: Sequence[str | Path] = ()) -> Run:
    """Open the folder of a run that `train` has made.

    Args:
        folder: as `Run.folder` names it.
        models: further folders of base models, where its base model is in none of the usual places.

    Raises:
        TaskError: `no_run`, there is none, or it has no checkpoint yet.
    """
    place = Path(folder)
    try:
        config = TransferConfig.model_validate_json((place / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise TaskError("no_run", f"{place} is no folder of a run", "folder") from None
    told = place / _REPORT
    step = RunReport.model_validate_json(told.read_bytes()).delivered_step if told.is_file() else None
    delivered = None if step is None else place / "checkpoints" / checkpoint_name(step)
    if delivered is None or stated(delivered) is None:
        newest = newest_whole(place / "checkpoints")
        if newest is None:
            raise TaskError("no_run", f"{place} has no checkpoint yet", "folder")
        delivered = newest[0]
    return Run(place, config, delivered, [Path(root) for root in models])
