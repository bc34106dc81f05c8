"""Comparisons as they are asked for; how they go on and end is in `api.comparisons.kind`."""

from __future__ import annotations

import math
import time

from sqlalchemy.orm import Session

from api.comparisons.models import Comparison, ComparisonJob
from api.comparisons.schemas import ComparisonCreate
from api.errors import InvalidInputError, ServiceError
from api.ids import new_id
from api.jobs import planning
from api.jobs import service as jobs
from api.jobs.models import Job
from difftune_core.config.card import BaseModelCard
from difftune_core.config.course import is_open
from difftune_core.config.families import rules_of
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError

BUDGET = ("max_steps", "batch_size")
METADATA = ("comparison", "comparison_method")
"""Keys that say in a job's metadata what it belongs to."""


def resolved(body: ComparisonCreate, card: BaseModelCard, *, num_threads: int) -> list[TransferConfig]:
    """The complete config of each method, for the first seed.

    Raises:
        InvalidInputError: names or seeds repeat, budgets differ, metadata has one of our keys, or settings do not go
            together; names the field.
    """
    _check_unique([method.name for method in body.methods], "methods.{}.name", "Two methods are called {!r}.")
    _check_unique(body.seeds, "seeds.{}", "The seed {!r} is there twice.")
    for key in METADATA:
        if key in (body.metadata or {}):
            raise InvalidInputError("reserved_key", f"The key {key!r} is set by the comparison.", param="metadata")
    configs = [_resolve(body, number, card, num_threads) for number in range(len(body.methods))]
    _check_budgets(body, configs)
    return configs


def fitted(
    session: Session, configs: list[TransferConfig], card: BaseModelCard, *, num_images: int | None
) -> list[TransferConfig]:
    """Change what the methods leave to `auto` so that all fit the largest worker that is known, all in the same way.

    Raises:
        InvalidInputError: `does_not_fit`, no known worker has the memory for one of them; names what would fit.
    """
    found = []
    for number, config in enumerate(configs):
        try:
            found.append(planning.fitted(session, config, card, num_images=num_images))
        except InvalidInputError as error:
            would = error.extra.get("would_fit", [])
            error.extra["would_fit"] = [{_of_method(field, number): each[field] for field in each} for each in would]
            raise
    counts = [config.resources.micro_batch for config in found]
    known = [count for count in counts if count != "auto"]
    again = [config.resources.activation_checkpointing for config in found]
    same = {"micro_batch": min(known, default="auto"), "activation_checkpointing": "on" if "on" in again else again[0]}
    return [config.model_copy(update={"resources": config.resources.model_copy(update=same)}) for config in found]


def _of_method(field: str, number: int) -> str:
    """A job's field as one of the comparison: what it says of a method is that method's."""
    return f"methods.{number}.{field}" if field.startswith("method.") else field


def create(
    session: Session, tenant_id: str, body: ComparisonCreate, configs: list[TransferConfig], card: BaseModelCard
) -> Comparison:
    """The comparison and its jobs: all methods of the first seed, then of the next.

    Raises:
        InvalidInputError: as `api.jobs.service.create`; a field of a method is named as one of `methods`.
        ConflictError: as `api.jobs.service.create`.
    """
    row = Comparison(
        id=new_id("cmp"),
        tenant_id=tenant_id,
        model=body.model,
        methods=[
            {"name": named.name, "method": config.model_dump(mode="json")["method"]}
            for named, config in zip(body.methods, configs, strict=True)
        ],
        seeds=list(body.seeds),
        control=configs[0].model_dump(mode="json")["control"],
        evaluation=configs[0].evaluation.model_dump(mode="json"),
        num_threads=configs[0].num_threads,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        metadata_=body.metadata,
        priority=body.priority,
        created_at=time.time(),
    )
    made = [
        (_create_job(session, row, number, configs[number].model_copy(update={"seed": seed}), card), number, seed)
        for seed in body.seeds
        for number in range(len(body.methods))
    ]
    session.add(row)
    session.flush()
    for job, number, seed in made:
        member = ComparisonJob(job_id=job.id, comparison_id=row.id, method=body.methods[number].name, seed=seed)
        session.add(member)
    session.flush()
    return row


def _resolve(body: ComparisonCreate, number: int, card: BaseModelCard, num_threads: int) -> TransferConfig:
    """A method's config; the evaluation's own defaults for comparisons are filled in where nobody else has any."""
    given = body.evaluation.model_dump(exclude_unset=True)
    ways = body.model_dump(include={"checkpoints", "resources", "num_threads"}, exclude_unset=True, exclude_none=True)
    method = body.methods[number].method.model_dump(exclude_unset=True)
    control = body.model_dump(include={"control"}, exclude_unset=True)
    asked = {"model": body.model, "method": method, "seed": body.seeds[0], **control, **ways}
    try:
        rules, card_has = rules_of(card), card.defaults.evaluation
        ours = {name: value for name, value in rules.comparison_defaults.items() if name not in card_has}
        asked["evaluation"] = {**ours, **given}
        config = resolve(TransferConfig.model_validate(asked), card, num_threads=num_threads)
    except TaskError as error:  # settings that do not go together
        param = error.param or "method"
        where = f"methods.{number}.{param}" if param.split(".")[0] == "method" else param
        raise InvalidInputError(error.code, str(error), param=where) from None
    if "every_steps" in given:
        return config
    every = _every_steps(config, *rules.evaluations)
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"every_steps": every})})


def _every_steps(config: TransferConfig, least: int, wanted: int) -> int:
    """Return the card's interval, where it gives the `least` evaluations that the family needs, else the wanted one."""
    max_steps, every = config.method.hyperparameters.max_steps, config.evaluation.every_steps
    if every is not None and math.ceil(max_steps / every) >= least:
        return every
    return math.ceil(max_steps / wanted)


def _check_unique(values: list[str] | list[int], param: str, message: str) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise InvalidInputError("not_unique", message.format(value), param=param.format(i))


def _check_budgets(body: ComparisonCreate, configs: list[TransferConfig]) -> None:
    """Equal steps of equal batches; a default of the card is a budget like any other."""
    first = configs[0].method.hyperparameters
    for number, (named, config) in enumerate(zip(body.methods, configs, strict=True)):
        where = f"methods.{number}.{config.method.where}"
        if is_open(config):
            message = "Methods are compared at equal budgets: state max_steps, not epochs."
            raise InvalidInputError("invalid_option", message, param=f"{where}.epochs")
        for field in BUDGET:
            value, wanted = getattr(config.method.hyperparameters, field), getattr(first, field)
            if value != wanted:
                message = (
                    f"Methods are compared at equal budgets: {field} of {named.name!r} is {value}, "
                    f"and of {body.methods[0].name!r} {wanted}."
                )
                raise InvalidInputError("unequal_budgets", message, param=f"{where}.{field}")


def _create_job(session: Session, row: Comparison, number: int, config: TransferConfig, card: BaseModelCard) -> Job:
    ours = dict(zip(METADATA, (row.id, row.methods[number]["name"]), strict=True))
    asked = jobs.Submission(
        config=config,
        training_file=row.training_file,
        validation_file=row.validation_file,
        suffix=row.suffix,
        metadata={**(row.metadata_ or {}), **ours},
        priority=row.priority or 0,
        base_digest=card.digest,
    )
    try:
        return jobs.create(session, row.tenant_id, asked)
    except ServiceError as error:
        if error.param and error.param.startswith("method."):
            error.param = _of_method(error.param, number)
            error.pointer = "#/" + error.param.replace(".", "/")
        raise
