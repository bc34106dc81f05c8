"""`python -m benchmarks.fits`: what fits a GPU, by the plan, as a table in Markdown. Nothing of it is measured.

Settings are those that a job gets by itself: the whole batch at once, or halved until it fits, then with blocks that
are computed again in the backward pass. A cell is the number of images at once of a batch of 32, with `again` where
blocks are computed again; `aside` where the average has to be on the host too; a dash where nothing helps.
"""

from __future__ import annotations

from typing import Any

from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import rules_of
from difftune_core.config.plan.circumstances import Circumstances, Device
from difftune_core.config.plan.fitting import Job, fitted
from difftune_core.config.plan.memory import micro_batch_of
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig

GIB = 1 << 30
CARDS_GIB = (8, 12, 16, 24, 48, 80)
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "full, moments in 8 bits": ("full", {"optimizer_state": "8bit"}),
    "difffit": ("difffit", {}),
    "lora": ("lora", {}),
}
"""Adapter and `resources`, by what the table calls them."""
_BATCH, _IMAGES, _CLASSES = 32, 10_000, 100
_INCEPTION = 24_000_000
_XL: dict[str, Any] = {"patch_size": 2, "in_channels": 4, "hidden_size": 1152, "depth": 28, "num_heads": 16}
_AUTOENCODER = {"block_out_channels": [128, 256, 512, 512], "num_parameters": 83_653_863}


def card_of_dit(pixels: int) -> BaseModelCard:
    """Make the card of a DiT-XL/2 for images of so many pixels a side."""
    anatomy = {**_XL, "input_size": pixels // 8, "num_classes": 1000, "autoencoder": _AUTOENCODER}
    return BaseModelCard(
        id=f"dit-xl-2-{pixels}",
        family="dit",
        image_size=pixels,
        num_classes=1000,
        feature_extractor="inception",
        digest="",
        anatomy=anatomy,
    )


def job_on(card: BaseModelCard, adapter: str, memory_gib: int, **resources: Any) -> Job:
    """Make a job of the defaults on a GPU with so much memory."""
    hyperparameters = {"batch_size": _BATCH, "adapter": {"type": adapter}}
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    given = TransferConfig.model_validate({"model": card.id, "method": method, "resources": resources})
    known = Circumstances(
        device=Device(f"a GPU of {memory_gib} GB", memory_gib * GIB),
        num_images=_IMAGES,
        num_classes=_CLASSES,
        extractor_parameters=_INCEPTION,
    )
    rules = rules_of(card)
    config = resolve(given, card, num_threads=1)
    return Job(config, lambda tried: rules.network_size(tried, card, _CLASSES), card.image_size, known)


def cell(card: BaseModelCard, way: str, memory_gib: int) -> str:
    """Tell how such a job fits."""
    adapter, resources = WAYS[way]
    for aside in ("device", "host"):
        job = fitted(job_on(card, adapter, memory_gib, **resources, average_on=aside))
        if job.fits():
            told = [str(micro_batch_of(job.config))]
            told += ["again"] if job.config.resources.activation_checkpointing == "on" else []
            return ", ".join([*told, *(["aside"] if aside == "host" else [])])
    return "-"


def table() -> str:
    """Write the table."""
    heads = [f"{memory} GB" for memory in CARDS_GIB]
    lines = ["| predicted | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]
    for card in (card_of_dit(256), card_of_dit(512)):
        for way in WAYS:
            cells = [cell(card, way, memory) for memory in CARDS_GIB]
            lines.append(f"| {card.id}, {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
