"""Memory by part and by phase, in bytes.

Of what is trained there are four copies in float32: weights and gradient, and two moments of AdamW; of a trained weight
that makes 16 bytes, and 4 more of its average. What is frozen is there once, for whoever looks at it. Judging and the
making of images load the base model's own weights beside a model that is tuned in full, in place of the gradients
(`tests/core/train/test_copies_of_weights.py` counts them in a run).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from difftune_core.config.plan.circumstances import Circumstances
from difftune_core.config.plan.sizes import FLOAT, HALF, NetworkSize
from difftune_core.config.run import PrecisionName
from difftune_core.config.transfer import TransferConfig

DECODER_BATCH = 64
"""Images that the autoencoder takes at once, at most."""
BUDGET_ON_CPU, BUDGET_SHARE = 1 << 30, 8
"""Bytes that images may take which are looked at at once: of a CPU's, and of a GPU's memory the part
(`difftune_core.runtime.at_once`)."""
PROCESS = 450 << 20
"""Memory of a trainer before it has loaded anything: Python, torch and what comes with them, as measured on Linux."""
CUDA_HOST = 3 << 30
"""Memory of such a trainer with CUDA's libraries. An assumption: it has not been measured."""
CUDA_DEVICE = 1 << 30
"""What of a GPU's memory no tensor has: the context, and what the allocator cannot use. An assumption, likewise."""
_EIGHT_BITS = 2 * (1 + FLOAT / 256)  # of two moments: a code each, and a scale for every 256
_RESIDENT_SHARE, _RESIDENT_ON_CPU = 4, 64 << 20  # difftune_core.runtime.residency
_EXTRACTOR_BATCH = 32
_EXTRACTOR_IMAGE = 3 * FLOAT * 64 * 147 * 147  # of Inception, at its widest place
_GRID_ROWS, _GRID_COLUMNS = 8, 12  # of a report: images of a class, and classes
Parts = dict[str, int]


@dataclass(frozen=True)
class Memory:
    """Parts by phase, on the device and on the host: of each phase the moments in which most is there.

    On a machine without a GPU all is the host's.
    """

    device: Mapping[str, Sequence[Parts]]
    host: Mapping[str, Sequence[Parts]]


def most(moments: Sequence[Parts]) -> int:
    """Return the bytes of a phase: of the moment that has most."""
    return max(sum(parts.values()) for parts in moments)


def peak(phases: Mapping[str, Sequence[Parts]]) -> tuple[str | None, int]:
    """Return the phase that takes the most, and how much that is."""
    sums = {name: most(moments) for name, moments in phases.items()}
    largest = max(sums, key=lambda name: sums[name], default=None)
    return largest, 0 if largest is None else sums[largest]


def precision_of(config: TransferConfig, *, on_gpu: bool) -> PrecisionName:
    """Return what `auto` comes to."""
    asked = config.resources.precision
    return ("bf16" if on_gpu else "fp32") if asked == "auto" else asked


def share_of(config: TransferConfig) -> int:
    """Return the images of a step that are one GPU's."""
    return max(1, config.method.hyperparameters.batch_size // config.resources.gpus)


def micro_batch_of(config: TransferConfig) -> int:
    """Return the images that go through the network at once."""
    asked, share = config.resources.micro_batch, share_of(config)
    return share if asked == "auto" else min(asked, share)


def memory_of(config: TransferConfig, size: NetworkSize, image_size: int, known: Circumstances) -> Memory:
    """Plan the memory of every phase.

    Args:
        config: resolved.
        size: of the network that is trained.
        image_size: pixels, square.
        known: what a plan is made for.
    """
    on_gpu = known.device is not None and known.device.is_gpu
    planner = _Planner(config, size, image_size, known, on_gpu=on_gpu)
    phases = planner.phases()
    base = {"reserved": CUDA_DEVICE} if on_gpu else {"process": PROCESS}
    whole = {name: [base | parts for parts in moments] for name, moments in phases.items()}
    return Memory(whole, {name: [planner.host(name)] for name in phases}) if on_gpu else Memory({}, whole)


@dataclass(frozen=True)
class _Planner:
    config: TransferConfig
    size: NetworkSize
    image_size: int
    known: Circumstances
    on_gpu: bool

    def phases(self) -> dict[str, list[Parts]]:
        """Parts on the device, or where there is none in the process, by phase and moment."""
        found: dict[str, list[Parts]] = {}
        if self._makes_retention_set():
            count = retention_images(self.config) or self.size.drawing_most
            found["building_retention_set"] = [self._begun() | self._drawing(count) | self._base_model()]
        found["caching_latents"] = [self._begun() | self._encoding(), self._begun() | self._reading_prompts()]
        found["training"] = self._training()
        found["evaluating"] = [self._judging()]
        found["exporting"] = [self._begun(training=True) | self._drawing(self._pictured())]
        return {
            name: [{part: size for part, size in parts.items() if size} for parts in moments]
            for name, moments in found.items()
        }

    def host(self, phase: str) -> Parts:
        """Parts on the host beside a GPU; a checkpoint's file goes through it."""
        parts = {"process": CUDA_HOST, "retention_images": self._retention_bytes()}
        if phase == "training":
            parts["checkpoint"] = 3 * FLOAT * self.size.trained
        if self._average_on_host() and phase in {"training", "evaluating"}:
            parts["average"] = 2 * FLOAT * self.size.trained  # it, and what arrives of the weights
        return {name: size for name, size in parts.items() if size}

    def _begun(self, *, training: bool = False) -> Parts:
        """Return what is there throughout; once a run trains, frozen networks beside are kept in its precision."""
        size = self.size
        frozen = size.beside + (size.parameters - size.trained if size.beside else 0)
        weights = FLOAT * (size.parameters + size.beside)
        weights -= (FLOAT - HALF) * frozen if training and self._in_half() else 0
        return {"weights": weights, "average": FLOAT * size.trained, "latents": self._resident()}

    def _in_half(self) -> bool:
        return precision_of(self.config, on_gpu=self.on_gpu) != "fp32"

    def _training(self) -> list[Parts]:
        """Activations, and autocast's copies of weights, go as gradients come, but for those that parts of the batch
        before have left.
        """
        size, config = self.size, self.config
        parts = self._begun(training=True) | {
            "optimizer": self._moments(),
            "teacher": FLOAT * size.parameters if config.method.needs_teacher else 0,
        }
        if self._average_on_host():
            parts["average"] = 0 if self.on_gpu else 2 * FLOAT * size.trained
        if not self.on_gpu:
            parts["retention_images"] = self._retention_bytes()
        gradients = FLOAT * size.trained
        is_split = micro_batch_of(config) < share_of(config)
        copies = HALF * size.cast if self._in_half() else 0
        found = [
            parts
            | {
                "activations": nbytes,
                "gradients": gradients if is_split else int(gradients * share),
                "autocast": int(copies * (1 - share)),
            }
            for nbytes, share in self._activations()
        ]
        return [*found, parts | {"gradients": gradients}]

    def _judging(self) -> Parts:
        """Gradients are gone; moments stay, and the base model is there while its images are made or asked for."""
        parts = self._begun(training=True) | {"optimizer": self._moments()} | self._base_model()
        extractor = FLOAT * (self.known.extractor_parameters or 0)
        looking = _EXTRACTOR_BATCH * _EXTRACTOR_IMAGE if extractor else 0
        drawing = self._drawing(self.config.evaluation.num_images)
        drawing["sampling"] = max(drawing["sampling"], looking)
        return parts | drawing | {"feature_extractor": extractor}

    def _activations(self) -> list[tuple[int, float]]:
        """Bytes of all images in the network at once in each moment of a step, and the gradients that are there."""
        if self.size.activations is None:
            return []
        count, is_on = micro_batch_of(self.config), self.config.resources.activation_checkpointing == "on"
        each = self.size.activations(precision_of(self.config, on_gpu=self.on_gpu), on_gpu=self.on_gpu)
        return [(count * nbytes, share) for nbytes, share in each.moments(checkpointing=is_on)]

    def _moments(self) -> int:
        each = 2 * FLOAT if self.config.resources.optimizer_state == "fp32" else _EIGHT_BITS
        return int(each * self.size.trained)

    def _base_model(self) -> Parts:
        """The base model's own weights; what is frozen is shared, and so is a teacher."""
        return {"base_model": FLOAT * self.size.parameters if self.size.is_asked_beside else 0}

    def _drawing(self, count: int) -> Parts:
        """Sampling, or decoding after it, whichever takes more; the autoencoder is there for both."""
        size, passes = self.size, 2 if self.on_gpu else 1  # guidance asks about all again: one by one on a CPU
        batch = min(count, self._at_once(passes * (size.drawing_budget or 0), size.drawing_most))
        parts = {"sampling": passes * batch * (size.drawing or 0)}
        if (autoencoder := size.autoencoder) is not None:
            decoded = min(count, self._at_once(autoencoder.budget_bytes(self.image_size), DECODER_BATCH))
            decoding = decoded * autoencoder.decoding_bytes(self.image_size)
            parts = {"sampling": max(parts["sampling"], decoding), "autoencoder": FLOAT * autoencoder.num_parameters}
        return parts

    def _at_once(self, nbytes: int, most: int) -> int:
        """Return what `difftune_core.runtime.at_once.images_at_once` does, which needs a device."""
        device, count = self.known.device, most
        memory = None if device is None else device.memory_bytes
        budget = BUDGET_ON_CPU if not self.on_gpu else BUDGET_ON_CPU if memory is None else memory // BUDGET_SHARE
        while count > 1 and count * nbytes > budget:
            count //= 2
        return count

    def _pictured(self) -> int:
        """Images of the report's largest grid."""
        return _GRID_ROWS * min(self.known.num_classes or _GRID_COLUMNS, _GRID_COLUMNS)

    def _encoding(self) -> Parts:
        autoencoder = self.size.autoencoder
        if autoencoder is None:
            return {}
        batch = self._at_once(autoencoder.budget_bytes(self.image_size), DECODER_BATCH)
        batch = min(batch, self.known.num_images or batch)
        encoding = batch * autoencoder.encoding_bytes(self.image_size)
        return {"autoencoder": FLOAT * autoencoder.num_parameters, "encoding": encoding}

    def _reading_prompts(self) -> Parts:
        """The text encoder is there before latents are made, and gone then."""
        text = self.size.text
        if text is None:
            return {}
        return {"text_encoder": FLOAT * text.num_parameters, "encoding": text.encoding_bytes()}

    def _resident(self) -> int:
        """Latents and controls of sets that are small enough to be resident; larger ones stay in their files."""
        device = self.known.device
        limit = _RESIDENT_ON_CPU
        if self.on_gpu:
            limit = (device.memory_bytes or 0) // _RESIDENT_SHARE if device is not None else 0
        counts = [self.known.num_images or 0, retention_images(self.config) or 0]
        each = [latent_bytes(self.config, self.size), self.size.control_bytes]
        return sum(nbytes for count in counts for one in each if (nbytes := count * one) <= limit)

    def _retention_bytes(self) -> int:
        return 3 * self.image_size**2 * (retention_images(self.config) or 0)

    def _makes_retention_set(self) -> bool:
        return retention_images(self.config) is not None and self.known.retention == "to_be_made"

    def _average_on_host(self) -> bool:
        return self.config.resources.average_on == "host" and self.size.is_full


def latent_bytes(config: TransferConfig, size: NetworkSize) -> int:
    """Return the bytes of an image's latents: mean and deviation in float16, of the mirrored image too with flips."""
    channels, height, width = size.latent
    flips = 2 if config.method.hyperparameters.horizontal_flip else 1
    return 2 * HALF * channels * height * width * flips


def retention_images(config: TransferConfig) -> int | None:
    """Return how many images a run samples to retain with; None where it uses none, or one that is named."""
    stated = config.method.retention_set
    return None if stated is None or isinstance(stated, str) else stated.num_images
