"""The few settings of a job that matter most, as fields of a form; kinds, limits and meanings are the JSON Schema's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from api.jobs.schemas import JobCreate
from difftune_core.config.methods.table import method_names

Schema = dict[str, Any]
Body = dict[str, Any]
_HYPER = "method.{method}.hyperparameters."
_TRAINING = ("max_steps", "epochs", "batch_size", "learning_rate", "adapter.type", "horizontal_flip", "tau")
_OTHERS = ("evaluation.every_steps", "evaluation.num_images", "samples.every_steps", "control.condition", "seed")
_GROUPS = {"evaluation": "Evaluation", "samples": "Sample images", "control": "ControlNet"}
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_WORDS = {"true": True, "false": False}


class UnreadableError(ValueError):
    """A field has a text that is none of its kind; `name` is the field's."""

    def __init__(self, name: str, message: str) -> None:
        """`message` is a sentence."""
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Field:
    """A setting as a form asks for it."""

    name: str
    """Path of the setting in a job's body, with `{method}` where the method's name goes."""
    label: str
    meaning: str
    kind: str
    """`integer`, `number`, `boolean` or `string`."""
    choices: tuple[str, ...]
    """Values that the setting can have; empty: anything of its kind."""
    limits: str
    """Limits of the value in words; empty where there are none."""

    by_default: Any
    """Value where neither the form nor the base model's card states one, None where that depends on the job."""

    def default(self, of_model: Mapping[str, Any]) -> Any:
        """The default that a base model's card has, or else the schema's; `of_model` is by groups of settings."""
        group, _, name = self.name.replace(_HYPER, "training.").partition(".")
        found = (of_model.get(group) or {}).get(name)
        return self.by_default if found is None else found


@cache
def fields() -> tuple[Field, ...]:
    """The settings, in the order of the form."""
    names = [_HYPER + name for name in _TRAINING] + list(_OTHERS)
    return tuple(_field(name) for name in names)


def body_of(given: Mapping[str, str], method: str) -> Body:
    """The settings that a form states, as a job's body has them; what is empty stays left out.

    Raises:
        UnreadableError: a field has a text that is none of its kind.
    """
    body: Body = {"method": {"type": method, method: {"hyperparameters": {}}}}
    for field in fields():
        if text := given.get(field.name, ""):
            _put(body, field.name.format(method=method).split("."), _read(field, text))
    return body


def _put(body: Body, path: list[str], value: Any) -> None:
    for step in path[:-1]:
        body = body.setdefault(step, {})
    body[path[-1]] = value


def _read(field: Field, text: str) -> Any:
    if field.choices and text not in field.choices:
        raise UnreadableError(field.name, f"{field.label} is one of {', '.join(field.choices)}.")
    if field.kind == "boolean":
        return _WORDS[text]
    if field.kind == "integer":
        return integer(field.name, field.label, text)
    return number(field.name, field.label, text) if field.kind == "number" else text


def integer(name: str, label: str, text: str) -> int:
    """The whole number that a field's text is. Raises UnreadableError."""
    if not _INTEGER.fullmatch(text):
        raise UnreadableError(name, f"{label} is a whole number, not {text[:40]!r}.")
    return int(text)


def number(name: str, label: str, text: str) -> float:
    """The number that a field's text is. Raises UnreadableError."""
    if not _NUMBER.fullmatch(text):
        raise UnreadableError(name, f"{label} is a number, not {text[:40]!r}.")
    return float(text)


def _field(name: str) -> Field:
    schema = _schema_of(name.format(method=method_names()[0]).split("."))
    variants = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    kind = variants[0].get("type", "string")
    label = schema.get("title", name.rpartition(".")[2]).capitalize()
    group = name.partition(".")[0]
    if "." in name and group in _GROUPS:
        label = f"{_GROUPS[group]}: {label.lower()}"
    default = schema.get("default")
    default = default.get("type") if isinstance(default, dict) else default
    choices = tuple(schema.get("enum", ())) or (tuple(_WORDS) if kind == "boolean" else ())
    return Field(name, label, _plain(schema.get("description", "")), kind, choices, _limits(variants[0]), default)


def _schema_of(path: list[str]) -> Schema:
    """The schema of a setting; what chooses among kinds has the names of the kinds as its choices."""
    whole = JobCreate.model_json_schema()
    here: Schema = whole
    for number, step in enumerate(path):
        here = _resolved(whole, here, step)
        if step == "type" and number == len(path) - 1 and "discriminator" in here:
            return {**here, "enum": list(here["discriminator"]["mapping"]), "type": "string"}
        here = here["properties"][step]
    return here


def _resolved(whole: Schema, schema: Schema, step: str) -> Schema:
    """The object schema that has the property `step`, found through references and alternatives."""
    if step == "type" and "discriminator" in schema:
        return schema
    if "$ref" in schema:
        return _resolved(whole, whole["$defs"][schema["$ref"].rpartition("/")[2]], step)
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found = _resolved(whole, one, step)
        if step in found.get("properties", {}):
            return found
    return schema


def _plain(description: str) -> str:
    """A description without what marks code, on one line."""
    return " ".join(description.replace("`", "").split())


def _limits(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = [f"at least {low:,}" if low is not None else f"more than {above:,}" if above is not None else ""]
    parts.append(f"at most {high:,}" if high is not None else f"less than {below:,}" if below is not None else "")
    return ", ".join(part for part in parts if part)
