from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field

from api.comparisons.models import Comparison
from api.comparisons.repository import Member
from api.jobs.schemas import JobError
from api.jobs.states import FINAL as JOB_FINAL
from api.jobs.states import JobStatus
from api.schemas import Listed, MetadataKey, MetadataValue, Out, Resolved, seconds
from api.subjects.models import ResultFile
from api.subjects.schemas import Report, reports_of
from api.subjects.states import FINAL, Status
from difftune_core.config.comparison import MAX_METHODS, MAX_SEEDS, MethodName, Seed
from difftune_core.config.control import ControlConfig
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.frozen import Frozen
from difftune_core.config.methods.table import AnyMethod
from difftune_core.config.run import CheckpointConfig, ResourcesConfig

_MAX_METADATA = 14  # a job has 16, of which two say what it is in its comparison


class NamedMethod(Frozen):
    """A method under the name that the report gives it."""

    name: MethodName
    """Letters, digits and `._=+-`, at most 40."""
    method: AnyMethod
    """The method, as a job states it."""


class ComparisonCreate(Frozen):
    """One data set, several methods, several seeds; a job for each method and seed."""

    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Id of the base model, as `GET /v1/models` lists it."""
    training_file: Annotated[str, Field(min_length=1, max_length=64)]
    """Id of the data set to tune on."""
    validation_file: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Id of the held-out data set that all results are judged against."""
    methods: Annotated[list[NamedMethod], Field(min_length=2, max_length=MAX_METHODS)]
    """The methods at equal budgets: `max_steps` and `batch_size` must be the same for all, defaults filled in."""
    control: ControlConfig | None = None
    """Stable Diffusion only: the condition that every ControlNet is taught, as a job's."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_SEEDS)] = [0, 1, 2]  # noqa: RUF012  # frozen
    """The jobs of one seed are paired: same data order, timesteps and noise. One seed shows a difference and cannot
    test it; six are the fewest with which an exact test can reach p = 0.05."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How every result is judged. Left out, `every_steps` is the model card's where that is less than `max_steps`, or
    else half of it, and `other_guidance` is `none` and `domain`: methods are compared also at equal target images seen,
    and without guidance by the null branch, which retention trains. ControlNets have no `other_guidance`; `every_steps`
    gives 16 evaluations where the card's gives fewer than 8, by which no convergence can be judged."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """Which checkpoints of each job stay in the store."""
    resources: ResourcesConfig = ResourcesConfig()
    """What each job trains on."""
    num_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU threads of each trainer."""
    suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")] | None = None
    """Goes into the names of the files."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA)] | None = None
    """Up to 14 pairs of your own; each job gets them, and `comparison` and `comparison_method`."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """The priority of each job. Higher goes first."""


class ComparedMethod(Out):
    """A method under its name."""

    name: str
    method: Resolved


class ComparedJob(Out):
    """One run."""

    id: str
    """Id of the job, under `/v1/fine_tuning/jobs`."""
    method: str
    seed: int
    status: JobStatus
    step: int
    total_steps: int
    error: JobError | None


class ComparisonDetails(Out):
    """Finer than the status."""

    phase: Literal["training", "comparing"] | None
    step: int
    """Steps done by all jobs together."""
    total_steps: int
    jobs: dict[str, int]
    """How many jobs have which status."""
    cancel_requested: bool


class ComparisonReport(Report):
    """A file of the joint report."""


class ComparisonOut(Listed):
    """A comparison of methods."""

    object: Literal["comparison"] = "comparison"
    status: Status
    """`running` from the start of the first job until the report is there, or it is known that there will be none."""
    status_details: ComparisonDetails
    created_at: int
    started_at: int | None
    finished_at: int | None
    model: str
    training_file: str
    validation_file: str | None
    methods: list[ComparedMethod]
    seeds: list[int]
    control: Resolved | None
    """The condition of ControlNets; null for base models that draw classes."""
    evaluation: Resolved
    checkpoints: Resolved | None
    """Checkpoint settings of the comparison's jobs; null once all of them are deleted."""
    resources: Resolved | None
    """Resources of the comparison's jobs; null once all of them are deleted."""
    num_threads: int | None
    suffix: str | None
    metadata: dict[str, str] | None
    priority: int
    jobs: list[ComparedJob]
    reports: list[ComparisonReport]
    error: JobError | None


def comparison_out(row: Comparison, members: list[Member], files: list[ResultFile]) -> ComparisonOut:
    of_jobs = members[0].job.transfer.model_dump(mode="json") if members else {}
    return ComparisonOut(
        id=row.id,
        status=Status(row.status),
        status_details=_details(row, members),
        created_at=int(row.created_at),
        started_at=seconds(row.started_at),
        finished_at=seconds(row.finished_at),
        model=row.model,
        training_file=row.training_file,
        validation_file=row.validation_file,
        methods=[ComparedMethod(**method) for method in row.methods],
        seeds=row.seeds,
        control=row.control,
        evaluation=row.evaluation,
        checkpoints=of_jobs.get("checkpoints"),
        resources=of_jobs.get("resources"),
        num_threads=row.num_threads,
        suffix=row.suffix,
        metadata=row.metadata_,
        priority=row.priority,
        jobs=[_job(member) for member in members],
        reports=reports_of(ComparisonReport, files, f"/v1/comparisons/{row.id}"),
        error=JobError.of(row),
    )


def _details(row: Comparison, members: list[Member]) -> ComparisonDetails:
    over = all(member.job.status in JOB_FINAL for member in members)
    return ComparisonDetails(
        phase=None if row.status in FINAL else "comparing" if over else "training",
        step=sum(member.job.step for member in members),
        total_steps=sum(member.job.total_steps for member in members),
        jobs=dict(Counter(str(member.job.status) for member in members)),
        cancel_requested=row.cancel_requested_at is not None,
    )


def _job(member: Member) -> ComparedJob:
    job = member.job
    return ComparedJob(
        id=job.id,
        method=member.method,
        seed=member.seed,
        status=JobStatus(job.status),
        step=job.step,
        total_steps=job.total_steps,
        error=JobError.of(job),
    )
