"""The transfer config: one object for REST, the command line and the trainer.

Importing this module loads pydantic and nothing else. A submitted config may leave out any field; `config.resolution`
fills what was left out from the base model's card: the stored config is complete and does not change when defaults do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from difftune_core.config.control import ControlConfig
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.frozen import Frozen
from difftune_core.config.methods.diff_tuning import DiffTuning
from difftune_core.config.methods.table import AnyMethod
from difftune_core.config.model_ids import ModelId, NamedModel, named_models
from difftune_core.config.run import CheckpointConfig, ResourcesConfig
from difftune_core.config.samples import SamplesConfig
from difftune_core.config.stored import without_former
from difftune_core.files import sha256_json

MAX_CLASSES = 1000
"""Most classes of a target: diffusers' pipeline looks for the null label in row 1000 of an export's table."""


class TransferConfig(Frozen):
    """What to tune, how, and how to judge it. Holds no paths."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    model: ModelId
    """Id of the base model, as `GET /v1/models` lists it."""
    method: AnyMethod = DiffTuning()
    """`diff_tuning` (default) or `supervised`, with its hyper-parameters under a key of the same name."""
    control: ControlConfig | None = None
    """Stable Diffusion only: the condition that a ControlNet beside the frozen base model is taught."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of data order, timesteps, noise and label dropout. Equal seeds pair two methods step by step."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the result is judged."""
    samples: SamplesConfig = SamplesConfig()
    """Images that are drawn on the way, to look at."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """Which checkpoints stay in the store."""
    resources: ResourcesConfig = ResourcesConfig()
    """What the job trains on."""
    num_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU threads of the trainer; part of the config because it changes floating-point sums. Null: the worker's."""

    def models(self) -> tuple[NamedModel, ...]:
        """All models that the config names: the base model, what judges, and what stands beside."""
        return tuple(named_models(self.model_dump()))


def config_digest(config: TransferConfig) -> str:
    """Digest what a config must be equal in for a resume: all but how the run is carried out, and what is left at
    its default, so that a field that is new in a release changes nothing.
    """
    ways = {"num_threads", "checkpoints", "resources", "samples"}
    return sha256_json(without_former(config.model_dump(exclude=ways, exclude_defaults=True), config))
