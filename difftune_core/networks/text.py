"""Prompts to text states with CLIP's text encoder. Imported only where prompts are read.

Shapes: n prompts, l tokens (the encoder's whole length), d their width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float16
from torch import Tensor

from difftune_core.files import build_once, whole_folder_digest
from difftune_core.interruption import interruption_point
from difftune_core.runtime.caches import place_of
from difftune_core.runtime.foreign import needed, reading
from difftune_core.runtime.mapped import Mapped
from difftune_core.runtime.residency import is_resident
from difftune_core.runtime.sharded import Block, Sharded, StoredRows, rows_of_a_shard, write_shards

_BATCH = 64
_FORMAT = 1
_WHOLE = "text.safetensors"
"""The one file of a cache that version 0.3.0 made."""
_STATES_BYTES = 77 * 768 * 2
"""Bytes of a prompt's states, about, of CLIP's text encoder in Stable Diffusion."""


@dataclass(frozen=True)
class TextTable:
    """The states of distinct prompts; stays on the CPU, a large one in its files."""

    states: Float16[Tensor, "n l d"] | StoredRows
    rows: dict[str, int]
    """Row of each prompt."""
    num_truncated: int
    """Prompts that are longer than the encoder takes; their ends are lost."""


class TextEncoder:
    """A frozen CLIP text encoder with its tokenizer.

    Args:
        folder: of a Stable Diffusion, with `text_encoder/` and `tokenizer/`.
        device: where it runs.

    Raises:
        TaskError: `unreadable_weights`.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizers: Any = CLIPTokenizer  # untyped in the library
        with reading("tokenizer/", "tokenizer", "unreadable_weights"):
            self._tokenizer = tokenizers.from_pretrained(folder / "tokenizer", local_files_only=True)
        with reading("text_encoder/", "text_encoder", "unreadable_weights"):
            inner = needed(folder / "text_encoder", "config.json")
            encoder: Any = CLIPTextModel.from_pretrained(inner, local_files_only=True, use_safetensors=True)
            self._length = int(encoder.config.max_position_embeddings)
        self._encoder = encoder.float().eval().requires_grad_(requires_grad=False).to(device)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> Float16[Tensor, "n l d"]:
        """The last hidden states, on the CPU; padding is not masked, as Stable Diffusion was trained.

        They are computed in float32, whatever else is not: they are shared between runs.
        """
        states = []
        for start in range(0, len(prompts), _BATCH):
            tokens = self._tokenizer(
                list(prompts[start : start + _BATCH]),
                padding="max_length",
                max_length=self._length,
                truncation=True,
                return_tensors="pt",
            )
            device = self._encoder.device
            with torch.autocast(device.type, enabled=False):
                states.append(self._encoder(tokens.input_ids.to(device))[0].half().cpu())
        with torch.autocast("cpu", enabled=False):  # which knows no float16
            return torch.cat(states)

    def is_truncated(self, prompt: str) -> bool:
        """Return whether the prompt has more tokens than the encoder takes."""
        return len(self._tokenizer(prompt, truncation=False, verbose=False).input_ids) > self._length


def text_table(prompts: Sequence[str], folder: Path, cache: Path, device: torch.device | str = "cpu") -> TextTable:
    """States of the distinct `prompts`, each encoded once for all runs that share them."""
    distinct = sorted(set(prompts))
    files = [whole_folder_digest(folder / part) for part in ("text_encoder", "tokenizer")]
    inputs = {"format": _FORMAT, "encoder": files, "prompts": distinct}

    place = place_of(cache, "text", inputs)
    parts = place.with_name(f".{place.name}.parts")

    def blocks(start: int) -> Iterator[Block]:
        encoder = TextEncoder(folder, device)
        for first in range(start, len(distinct), _BATCH):
            interruption_point()
            part = distinct[first : first + _BATCH]
            truncated = torch.tensor([encoder.is_truncated(prompt) for prompt in part])
            yield {"states": encoder.encode(part), "truncated": truncated}

    def build(aside: Path) -> None:
        rows = rows_of_a_shard(_STATES_BYTES, _BATCH)
        write_shards(aside, parts, count=len(distinct), rows=rows, blocks=blocks)

    return _read(build_once(place, build, parts), distinct)


def _read(folder: Path, prompts: Sequence[str]) -> TextTable:
    rows = Sharded([Mapped(folder / _WHOLE)]) if (folder / _WHOLE).exists() else Sharded.of_folder(folder)
    states: Tensor | StoredRows = StoredRows(rows, "states")
    if is_resident(rows.nbytes(), torch.device("cpu")):
        states = torch.cat([part.clone() for part in rows.parts("states")])
    truncated = sum(int(part.sum()) for part in rows.parts("truncated"))
    return TextTable(states, {prompt: row for row, prompt in enumerate(prompts)}, truncated)
