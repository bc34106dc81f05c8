from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.analyses.models import Analysis
from api.jobs.models import Job
from api.schemas import In, Listed, MetadataKey, MetadataValue, Out, Resolved, seconds
from api.subjects.models import ResultFile
from api.subjects.schemas import Failure, Progress, Report, reports_of
from api.subjects.states import Status
from difftune_core.config.analysis import MAX_CHECKPOINTS, ChainOfForgetting, Fractions
from difftune_core.config.evaluation import ClassDistribution, EvaluationConfig, GuidanceInterval
from difftune_core.config.sampling import Guidance, Sampler

_MAX_METADATA = 16
_CheckpointId = Annotated[str, Field(min_length=1, max_length=64)]


class AnalysisEvaluation(In):
    """How images are drawn; what is left out is as the first checkpoint's job was judged."""

    num_images: Annotated[int, Field(ge=4, le=1_000_000)] | None = None
    """Images at each share of each checkpoint."""
    class_distribution: ClassDistribution | None = None
    sampler: Sampler | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=1, le=20)] | None = None
    guidance: Guidance | None = None
    guidance_interval: GuidanceInterval | None = None
    guided_channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class AnalysisCreate(In):
    """The chain of forgetting: the last part of the reverse chain by the base model, FID against its share."""

    type: Literal["chain_of_forgetting"]
    """The kind of analysis."""
    checkpoints: Annotated[list[_CheckpointId], Field(min_length=1, max_length=MAX_CHECKPOINTS)]
    """Ids of one to four checkpoints of jobs with the same base model, data set and held-out images: a line each."""
    fractions: Fractions | None = None
    """Shares of the chain, those next to the data, that the base model takes: rising from 0. Left out: tenths."""
    evaluation: AnalysisEvaluation = AnalysisEvaluation()
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA)] | None = None
    """Up to 16 pairs of your own."""

    def config(self, job: Job) -> ChainOfForgetting:
        """The complete config, on the first checkpoint's job."""
        given = self.evaluation.model_dump(exclude_none=True)
        stored = job.transfer
        evaluation = EvaluationConfig.model_validate({**stored.evaluation.model_dump(), **given})
        config = ChainOfForgetting(
            model=job.model,
            seed=stored.seed,
            evaluation=evaluation,
            num_threads=stored.num_threads,
        )
        return config if self.fractions is None else config.model_copy(update={"fractions": self.fractions})


class AnalysedCheckpoint(Out):
    """A line of the plot."""

    id: str
    name: str
    """Name of the checkpoint in the report."""
    job_id: str
    step: int


class AnalysisError(Failure):
    """Why an analysis failed."""


class AnalysisProgress(Progress):
    """Images that are drawn and judged, of all."""


class AnalysisReport(Report):
    """A file of the report."""


class AnalysisOut(Listed):
    """A look at tuned models."""

    object: Literal["analysis"] = "analysis"
    type: str
    status: Status
    model: str
    checkpoints: list[AnalysedCheckpoint]
    fractions: list[float]
    evaluation: Resolved
    training_file: str
    validation_file: str | None
    progress: AnalysisProgress
    reports: list[AnalysisReport]
    """Files of a succeeded analysis: the page with the plot, the figures as JSON, the images as one picture."""
    metadata: dict[str, str] | None
    error: AnalysisError | None
    created_at: int
    started_at: int | None
    finished_at: int | None


def analysis_out(analysis: Analysis, files: list[ResultFile]) -> AnalysisOut:
    config = analysis.chain
    return AnalysisOut(
        id=analysis.id,
        type=analysis.type,
        status=Status(analysis.status),
        model=config.model,
        checkpoints=[AnalysedCheckpoint.model_validate(entry) for entry in analysis.checkpoints],
        fractions=list(config.fractions),
        evaluation=config.evaluation.model_dump(mode="json"),
        training_file=analysis.training_file,
        validation_file=analysis.validation_file,
        progress=AnalysisProgress(done=analysis.done, total=analysis.total),
        reports=reports_of(AnalysisReport, files, f"/v1/analyses/{analysis.id}"),
        metadata=analysis.metadata_,
        error=AnalysisError.of(analysis),
        created_at=int(analysis.created_at),
        started_at=seconds(analysis.started_at),
        finished_at=seconds(analysis.finished_at),
    )
