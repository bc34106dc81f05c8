"""Bytes that a job leaves in the store, and those that the node which trains it needs on its disk."""

from __future__ import annotations

import math

from difftune_core.config.course import is_open
from difftune_core.config.plan.circumstances import Circumstances
from difftune_core.config.plan.memory import latent_bytes, retention_images
from difftune_core.config.plan.sizes import FLOAT, NetworkSize
from difftune_core.config.transfer import TransferConfig

_RESUMABLE = 2  # newest checkpoints in the store from which a run can go on
_ON_DISK = 3  # checkpoints of a run on its node: two, the best, and for a moment the one that is written in their place
_PAGE_AND_PICTURES = 8 << 20  # of a report, as an assumption


def checkpoints_of(config: TransferConfig) -> int | None:
    """Return how many checkpoints a run saves; None while its length is not known."""
    hyperparameters = config.method.hyperparameters
    if is_open(config):
        return None
    every = hyperparameters.checkpoint_every_steps or hyperparameters.max_steps
    return math.ceil(hyperparameters.max_steps / every)


def kept_of(config: TransferConfig) -> int | None:
    """Return how many checkpoints stay in the store, the best one apart; None while that is not known."""
    made, last = checkpoints_of(config), config.checkpoints.keep_last
    if made is None or last is None:
        return last if made is None else made
    return min(made, last)


def weights_bytes(size: NetworkSize) -> int:
    """Return the bytes of a checkpoint's model, and of what is trained of it where that is a part."""
    return FLOAT * (size.parameters + (0 if size.is_full else size.trained))


def resume_bytes(size: NetworkSize) -> int:
    """Return the bytes of what a resume needs: raw weights and two moments, and an adapter's average."""
    return (3 if size.is_full else 4) * FLOAT * size.trained


def export_bytes(size: NetworkSize) -> int:
    """Return the bytes of a pipeline for diffusers: the model and the autoencoder."""
    autoencoder = 0 if size.autoencoder is None else size.autoencoder.num_parameters
    return FLOAT * (size.parameters + autoencoder)


def store_parts(config: TransferConfig, size: NetworkSize) -> dict[str, int] | None:
    """Return what the job has in the store when it has ended, by part; None while its length is not known."""
    kept = kept_of(config)
    if kept is None:
        return None
    return {
        "checkpoints": kept * weights_bytes(size),
        "resume_states": min(kept, _RESUMABLE) * resume_bytes(size),
        "export": export_bytes(size),
        "report": _PAGE_AND_PICTURES,
    }


def disk_parts(config: TransferConfig, size: NetworkSize, image_size: int, known: Circumstances) -> dict[str, int]:
    """Return what the node needs at most, by part; caches stay there for other jobs."""
    latents, pixels = latent_bytes(config, size), 3 * image_size**2
    retained, judged = retention_images(config) or 0, config.evaluation.num_images
    return {
        "checkpoints": _ON_DISK * (weights_bytes(size) + resume_bytes(size)),
        "export": 2 * export_bytes(size),  # a folder, and the archive of it
        "latents": latents * ((known.num_images or 0) + retained + judged),
        "retention_set": pixels * retained,
        "base_model_images": pixels * judged,
    }
