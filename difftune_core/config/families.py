"""Model families, as far as a config is concerned: their rules, and where they are found. Free of torch.

This package's own families are found by name, and those of other distributions by entry points of the group
`difftune.families`, whose names are what cards say in `family`. API, command line and trainers look alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from typing import Any, ClassVar, Literal

from difftune_core.config.adapter import FullTuning, check_targets
from difftune_core.config.card import BaseModelCard
from difftune_core.config.control import ControlConfig
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.outside import load, loaded
from difftune_core.config.plan.sizes import NetworkSize, size_by_parameters
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError

DataForm = Literal["class_folders", "captioned"]
GROUP = "difftune.families"
"""The group of entry points."""
FAMILIES = {
    "dit": "difftune_core.families.dit.rules:DiTRules",
    "stable-diffusion": "difftune_core.families.controlnet.rules:ControlNetRules",
}
"""This package's own families, by what cards say in `family`.

As text: a config knows no family, it asks one that is named.
"""


class FamilyRules:
    """Rules of a family whose models draw classes; others override what differs.

    Each method is asked with what a user stated, after its schema was checked, and refuses what this family cannot do
    by a `TaskError` that names the field.
    """

    implementation: ClassVar[str]
    """Where the `Family` is, as `module:object`: imported where it is trained or drawn from, never in the API."""
    adapters: ClassVar[tuple[type[Any], ...]] = (FullTuning,)
    """Classes of the adapters that a network of this family takes."""
    has_teacher: ClassVar[bool] = False
    """Whether the family's training data can ask the base model in each step, as some recipes do."""
    has_handover: ClassVar[bool] = False
    """Whether the base model can end a chain that the tuned model began."""
    has_time_dropout: ClassVar[bool] = False
    """Whether the family's network can be asked without being told a time."""
    section: ClassVar[str | None] = None
    """The config's section that is this family's own, and that every resolved config of it has."""
    data_form: ClassVar[DataForm] = "class_folders"
    """The form of data set that the family is trained on."""
    evaluations: ClassVar[tuple[int, int]] = (2, 2)
    """Evaluations that a method of a comparison must have, and those that it gets where it would have fewer."""
    comparison_defaults: ClassVar[Mapping[str, Any]] = {"other_guidance": ("none", "domain")}
    """Fields of `evaluation` in a comparison that neither the user nor the model's card states."""
    no_format: ClassVar[Mapping[str, str]] = {
        "single_file": "Only ControlNets have a single file beside `safetensors`, and job {job} trains none."
    }
    """Formats of checkpoints that the family never has, each with the sentence that says so of a `job`."""

    def check_method(self, config: TransferConfig, card: BaseModelCard) -> None:
        """Refuse a recipe that asks the base model where this family cannot.

        Raises:
            TaskError: `recipe_not_for_model`.
        """
        if config.method.needs_teacher and not self.has_teacher:
            message = f"the base model is not asked while a model of the family {card.family!r} is trained"
            raise TaskError("recipe_not_for_model", message, config.method.objective.field)

    def complete_control(self, config: TransferConfig, card: BaseModelCard) -> ControlConfig | None:
        """Complete the config's `control`; None where the family has none.

        Raises:
            TaskError: `control_not_for_model`, or what the family refuses.
        """
        if config.control is not None:
            message = f"{card.id} is no Stable Diffusion: it takes no control"
            raise TaskError("control_not_for_model", message, "control")
        return None

    def begun_with(self, given: dict[str, Any], before: TransferConfig, checkpoint: str) -> dict[str, Any]:
        """Complete a config as stated from the one whose checkpoint it begins with in place of a base model.

        Raises:
            TaskError: `invalid_option`, what is stated does not go with it.
        """
        del before, checkpoint
        return given

    def training(self, given: TrainingHyperparameters, where: str) -> dict[str, Any]:
        """Say which training fields this family has in its own way, after checking the adapter.

        Raises:
            TaskError: `adapter_not_for_model`, or what is wrong with its targets.
        """
        if not isinstance(given.adapter, self.adapters):
            message = f"this model family takes no adapter of type {given.adapter.type}"
            raise TaskError("adapter_not_for_model", message, f"{where}.adapter")
        check_targets(given.adapter, f"{where}.adapter.targets")
        return {}

    def evaluation_defaults(
        self, given: EvaluationConfig, control: ControlConfig | None, card: BaseModelCard
    ) -> dict[str, Any]:
        """Say which defaults of `evaluation` are this family's.

        Raises:
            TaskError: `clip_not_for_model`.
        """
        del control
        if given.clip_model is not None:
            message = f"{card.id} draws classes: its images have no captions that a CLIP model could score"
            raise TaskError("clip_not_for_model", message, "evaluation.clip_model")
        return {}

    def retention_set(self, stated: RetentionSetConfig, control: ControlConfig | None) -> RetentionSetConfig:
        """Complete the settings of a run's own retention set where the run decides, before the card does."""
        del control
        return stated

    def annotated(self, config: TransferConfig) -> str | None:
        """Name the condition that an annotator beside the model must draw; None where it needs none."""
        del config
        return None

    def measured_along(self, control: ControlConfig | None, evaluation: EvaluationConfig) -> AbstractSet[str]:
        """Name what each evaluation measures in place of the metrics, where those are measured at the end alone."""
        del control, evaluation
        return frozenset()

    def retention_defaults(self, card: BaseModelCard) -> dict[str, Any]:
        """Say which defaults of a retention set are this family's."""
        del card
        return {}

    def no_chain(self, card: BaseModelCard) -> str | None:
        """Say why no chain of forgetting is drawn of such models; None where one is."""
        return f"A chain of forgetting is of DiTs; these are of the family {card.family!r}, on {card.id}."

    def network_size(self, config: TransferConfig, card: BaseModelCard, num_classes: int | None) -> NetworkSize:
        """Say how much memory the network of a resolved config takes, by the number of parameters where that is all.

        `num_classes` are the target's, where they are known.
        """
        del num_classes
        return size_by_parameters(card, config.method.hyperparameters.adapter)

    def check_prompt(self, prompt: str | None, card: BaseModelCard, param: str) -> None:
        """Refuse a prompt for the retention set where the family draws classes.

        Raises:
            TaskError: `invalid_option`, naming `param`.
        """
        if prompt is not None:
            raise TaskError("invalid_option", f"{card.id} draws classes and takes no prompt", param)


def rules_of_config(config: TransferConfig) -> FamilyRules:
    """Find the rules of the family whose section a resolved config has, those of classes where it has none.

    For configs of stored jobs, whose base model's card may be gone.
    """
    owners = (rules for rules in all_rules().values() if rules.section and getattr(config, rules.section) is not None)
    return next(owners, FamilyRules())


def rules_of(card: BaseModelCard) -> FamilyRules:
    """Find the rules of the family that a card names.

    Raises:
        TaskError: `family_unknown`, nothing that is installed brings it.
    """
    found = all_rules().get(card.family)
    if found is None:
        message = f"{card.id} is a model of the family {card.family!r}, which is not installed here"
        raise TaskError("family_unknown", message, "model")
    return found


@cache
def all_rules() -> dict[str, FamilyRules]:
    """Load the rules of every family, this package's first.

    Raises:
        RuntimeError: an entry point is no family, cannot be loaded, or takes a name that is taken.
    """
    found: dict[str, FamilyRules] = {name: load(place)() for name, place in FAMILIES.items()}
    for name, kind in loaded(GROUP):
        if not (isinstance(kind, type) and issubclass(kind, FamilyRules)):
            message = f"the entry point {name!r} of {GROUP} is no class of FamilyRules: {kind!r}"
            raise RuntimeError(message)  # noqa: TRY004  whoever installed it is to read it
        if name in found:
            raise RuntimeError(f"the model family {name!r} is there twice")
        found[name] = kind()
    return found
