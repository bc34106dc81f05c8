"""Every row class in one import: migrations and the drift check need them all known."""

from __future__ import annotations

from api.analyses.models import Analysis
from api.comparisons.models import Comparison, ComparisonJob
from api.datasets.models import Dataset
from api.db import Base
from api.idempotency.models import IdempotencyKey
from api.jobs.models import Checkpoint, Event, Job, Metric
from api.keys.models import ApiKey
from api.logs.models import LogChunk
from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.subjects.models import ResultFile
from api.subjects.plain import PlainSubject
from api.uploads.models import Upload, UploadPart
from api.work.models import Attempt, WorkerCapacity, WorkItem

__all__ = [
    "Analysis",
    "ApiKey",
    "Attempt",
    "Base",
    "Checkpoint",
    "Comparison",
    "ComparisonJob",
    "Dataset",
    "Event",
    "IdempotencyKey",
    "Job",
    "LogChunk",
    "Metric",
    "PlainSubject",
    "ResultFile",
    "RetentionArtifact",
    "RetentionSet",
    "Upload",
    "UploadPart",
    "WorkItem",
    "WorkerCapacity",
]
metadata = Base.metadata
