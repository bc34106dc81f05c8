"""Prompts to text states with CLIP's text encoder. Imported only where prompts are read.

Shapes: n prompts, l tokens (the encoder's whole length), d their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float16
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.files import build_once, whole_folder_digest
from difftune_core.runtime.caches import place_of
from difftune_core.runtime.foreign import needed, reading
from difftune_core.runtime.tensors import save_tensors

_BATCH = 64
_FORMAT = 1
_FILE = "text.safetensors"


@dataclass(frozen=True)
class TextTable:
    """The states of distinct prompts; stays on the CPU, mapped from its file."""

    states: Float16[Tensor, "n l d"]
    rows: dict[str, int]
    """Prompt -> row."""
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
        """The last hidden states, on the CPU; padding is not masked, as Stable Diffusion was trained."""
        states = []
        for start in range(0, len(prompts), _BATCH):
            tokens = self._tokenizer(
                list(prompts[start : start + _BATCH]),
                padding="max_length",
                max_length=self._length,
                truncation=True,
                return_tensors="pt",
            )
            states.append(self._encoder(tokens.input_ids.to(self._encoder.device))[0].half().cpu())
        return torch.cat(states)

    def is_truncated(self, prompt: str) -> bool:
        """Whether the prompt has more tokens than the encoder takes."""
        return len(self._tokenizer(prompt, truncation=False, verbose=False).input_ids) > self._length


def text_table(prompts: Sequence[str], folder: Path, cache: Path, device: torch.device | str = "cpu") -> TextTable:
    """States of the distinct `prompts`, each encoded once for all runs that share them."""
    distinct = sorted(set(prompts))
    parts = [whole_folder_digest(folder / part) for part in ("text_encoder", "tokenizer")]
    inputs = {"format": _FORMAT, "encoder": parts, "prompts": distinct}

    def build(aside: Path) -> None:
        encoder = TextEncoder(folder, device)
        truncated = torch.tensor([encoder.is_truncated(prompt) for prompt in distinct])
        save_tensors({"states": encoder.encode(distinct), "truncated": truncated}, aside / _FILE)

    tensors = load_file(build_once(place_of(cache, "text", inputs), build) / _FILE)
    rows = {prompt: row for row, prompt in enumerate(distinct)}
    return TextTable(tensors["states"], rows, int(tensors["truncated"].sum()))
