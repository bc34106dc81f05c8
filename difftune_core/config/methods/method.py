"""The base of every method: a member of `method` in the transfer config, and what the rest asks of it.

Whoever needs to know how a method differs asks it here. None of this loads torch: what a method learns by is named as
text, and only trainers import that.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from difftune_core.config.card import BaseModelCard
from difftune_core.config.frozen import Frozen
from difftune_core.config.methods.hyperparameters import RetentionSetting, TrainingHyperparameters
from difftune_core.config.named import STORED


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is learned in a step: two functions as `module:function`, and who brings them."""

    noun: str
    """What brings them: a `method` or a `recipe`; begins the codes of errors."""
    name: str
    """What configs call it."""
    field: str
    """The config's field that names it, with dots."""
    draw: str
    """A `difftune_core.objectives.draws.Draw`."""
    loss: str
    """A `difftune_core.objectives.denoising.Loss`; empty: the denoising loss."""


class Method(Frozen):
    """A method of tuning.

    A method that is called `mine` in configs has two fields: `type`, a `Literal["mine"]`, and `mine`, a `Frozen` with
    the one field `hyperparameters`, whose class is `TrainingHyperparameters` or made from it. One that retains what the
    base model knows has a hyper-parameter `retention_set`, a `RetentionSetting`.
    """

    label: ClassVar[str]
    """The name of the method for people, as it stands amid a sentence."""
    draw: ClassVar[str] = "difftune_core.objectives.supervised:draw"
    """A `difftune_core.objectives.draws.Draw` as `module:function`; of plain fine-tuning where a method has none."""
    loss: ClassVar[str] = ""
    """A `difftune_core.objectives.denoising.Loss` as `module:function`; empty: the denoising loss."""
    type: str

    @classmethod
    def settings(cls) -> builtins.type[TrainingHyperparameters]:
        """Return the class of the method's hyper-parameters."""
        (name,) = cls.model_fields.keys() - {"type"}
        spec = cast("builtins.type[Frozen]", cls.model_fields[name].annotation)
        return cast("builtins.type[TrainingHyperparameters]", spec.model_fields["hyperparameters"].annotation)

    @property
    def hyperparameters(self) -> TrainingHyperparameters:
        """The method's hyper-parameters."""
        return cast("TrainingHyperparameters", getattr(self, self.type).hyperparameters)

    @property
    def where(self) -> str:
        """The config's field that holds the hyper-parameters, with dots."""
        return f"method.{self.type}.hyperparameters"

    @property
    def needs_teacher(self) -> bool:
        """Whether the base model is asked in every step."""
        return False

    @property
    def retention_set(self) -> RetentionSetting | None:
        """What is said of the images to retain with; None where the method uses none, or a teacher in their place."""
        found: RetentionSetting | None = getattr(self.hyperparameters, "retention_set", None)
        return None if self.needs_teacher else found

    @property
    def objective(self) -> Objective:
        """What is learned in a step.

        Raises:
            TaskError: `method_unknown`, `recipe_unknown`, what brings it is not installed.
        """
        return Objective(noun="method", name=self.type, field="method.type", draw=self.draw, loss=self.loss)

    def resolved(self, card: BaseModelCard, batch_size: int) -> dict[str, Any]:
        """Return the hyper-parameters that the method completes in a way of its own, after judging those that were
        stated.

        Args:
            card: of the base model.
            batch_size: resolved, images per step.

        Raises:
            TaskError: what was stated does not go together, or not with the model; names the field.
        """
        del card, batch_size
        return {}

    def having(self, **changed: Any) -> Method:
        """Return the same method with other values of some hyper-parameters."""
        given = {**self.hyperparameters.model_dump(exclude_unset=True), **changed}
        spec = {"type": self.type, self.type: {"hyperparameters": given}}
        return type(self).model_validate(spec, context=STORED)
