"""What a model can be asked to draw, and what a form asks it for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.web.backend import Backend, RefusedError
from api.web.settings_form import integer, number
from difftune_core.config.families import all_rules

Body = dict[str, Any]
_MOST_CHOICES = 200
_TEXTS = ("guidance", "control_image")
_INTEGERS = {"n": "Images", "seed": "Seed", "num_inference_steps": "Steps"}
_NUMBERS = {"guidance_scale": "Guidance scale", "conditioning_scale": "Control scale"}


@dataclass(frozen=True)
class Drawer:
    """A model that draws, as the form asks for it."""

    id: str
    base_model: str | None
    """The base model of a tuned one."""
    job: str | None
    """The job that made the model."""
    draws_prompts: bool
    class_names: tuple[str, ...]
    """Names by label, where they are known."""
    num_classes: int
    size: int | None
    """Pixels, square."""
    defaults: Mapping[str, Any]
    """How the model is drawn from unless a form says otherwise."""

    @property
    def is_tuned(self) -> bool:
        """Whether there is a base model to be drawn beside it."""
        return self.base_model is not None

    @property
    def is_controlled(self) -> bool:
        """Whether the model follows a control image."""
        return self.is_tuned and self.draws_prompts

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of classes to choose from; empty where there are too many, or none is known."""
        return self.class_names if len(self.class_names) <= _MOST_CHOICES else ()


async def drawer(api: Backend, model_id: str) -> Drawer:
    """Look up a base model, a result or a checkpoint. Raises RefusedError."""
    model = await api.get("models", model_id)
    rules, job_id = all_rules().get(model["family"]), model["fine_tuning_job_id"]
    job = await api.get("fine_tuning", "jobs", job_id) if job_id else None
    names = await _class_names(api, job["training_file"]) if job else ()
    return Drawer(
        id=model["id"],
        base_model=model["base_model"],
        job=job_id,
        draws_prompts=rules is not None and rules.data_form == "captioned",
        class_names=names,
        num_classes=len(names) or model["num_classes"],
        size=model["image_size"],
        defaults=job["evaluation"] if job else model["defaults"].get("evaluation", {}),
    )


async def _class_names(api: Backend, dataset_id: str) -> tuple[str, ...]:
    try:
        return tuple((await api.get("datasets", dataset_id))["class_names"] or ())
    except RefusedError:  # it was deleted since
        return ()


def body_of(form: Mapping[str, str], model: Drawer) -> Body:
    """The request for images that a form states; what is empty is as the model was judged.

    Raises:
        UnreadableError: a field has a text that is no number.
    """
    body: Body = {"model": model.id, "compare_to_base": model.is_tuned and form.get("compare_to_base") == "yes"}
    if model.draws_prompts:
        body["prompt"] = form.get("prompt", "")
    elif label := form.get("label"):
        body["class_label"] = integer("label", "Class", label)
    else:
        body["class_label"] = form.get("class_label", "")
    body |= {name: form[name] for name in _TEXTS if form.get(name)}
    body |= {name: integer(name, title, form[name]) for name, title in _INTEGERS.items() if form.get(name)}
    return body | {name: number(name, title, form[name]) for name, title in _NUMBERS.items() if form.get(name)}


def values_of(drawn: Mapping[str, Any]) -> dict[str, str]:
    """A form that asks for the same images again."""
    given = {**drawn["settings"], **{name: drawn[name] for name in ("n", "seed", "prompt")}}
    label, name = drawn["class_label"], drawn["class_name"]
    given |= {
        "label": label,
        "class_label": name or label,
        "compare_to_base": "yes" if drawn["compare_to_base"] else "",
    }
    names = (*_TEXTS, *_INTEGERS, *_NUMBERS, "prompt", "label", "class_label", "compare_to_base")
    return {name: str(given[name]) for name in names if given.get(name) is not None}
