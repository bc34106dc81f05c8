"""A checkpoint as a diffusers `DiTPipeline` folder.

Diffusers gives every block its own copy of the timestep and label embedders, and takes 1000 for the null label
whatever the table: the export copies ours into each block and pads the table to 1001 rows with our null in row 1000
(and in every row that is no class). The pipeline ignores a learned variance and has timestep frequencies of its own;
what that does to its images is measured (`checkpoint.deviation`) and in the card.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difftune_core.diffusion.reverse import Sampling
from difftune_core.diffusion.solvers import make_scheduler
from difftune_core.families.dit.deviation import pipeline_deviation
from difftune_core.families.dit.export_card import class_table, readme_of
from difftune_core.families.export import CARD, README, forget_place
from difftune_core.interruption import Listen, unheard
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.networks.state import CONFIG
from difftune_core.runtime.imports import uncollected

PIPELINE_NULL_LABEL = 1000
PIPELINE = "handover_pipeline.py"
"""The pipeline of an export with two transformers."""


def padded_table(table: Tensor) -> Tensor:
    """Label rows for the pipeline: classes first, then the null row up to row 1000. [K + 1, d] -> [1001, d]."""
    classes, null = table[:-1], table[-1:]
    return torch.cat([classes, null.expand(PIPELINE_NULL_LABEL + 1 - len(classes), -1)])


def to_diffusers_state(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Our names (the original's) to those of `DiTTransformer2DModel`; values are not changed, the table is padded.

    What stands in the original once is shared with it; what each block has of its own is copied for each.
    """
    out = {
        "pos_embed.proj.weight": state["x_embedder.proj.weight"],
        "pos_embed.proj.bias": state["x_embedder.proj.bias"],
    }
    for kind in ("weight", "bias"):
        out[f"proj_out_1.{kind}"] = state[f"final_layer.adaLN_modulation.1.{kind}"]
        out[f"proj_out_2.{kind}"] = state[f"final_layer.linear.{kind}"]
    for i in range(depth):
        out |= _block(state, f"blocks.{i}", f"transformer_blocks.{i}")
        table = padded_table(state["y_embedder.embedding_table.weight"])
        out[f"transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table.weight"] = table
    return out


def _block(state: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        for part, tensor in zip("qkv", state[f"{ours}.attn.qkv.{kind}"].chunk(3), strict=True):
            out[f"{theirs}.attn1.to_{part}.{kind}"] = tensor
        out[f"{theirs}.attn1.to_out.0.{kind}"] = state[f"{ours}.attn.proj.{kind}"]
        out[f"{theirs}.ff.net.0.proj.{kind}"] = state[f"{ours}.mlp.fc1.{kind}"]
        out[f"{theirs}.ff.net.2.{kind}"] = state[f"{ours}.mlp.fc2.{kind}"]
        out[f"{theirs}.norm1.linear.{kind}"] = state[f"{ours}.adaLN_modulation.1.{kind}"]
        for layer, number in (("0", 1), ("2", 2)):
            name = f"{theirs}.norm1.emb.timestep_embedder.linear_{number}.{kind}"
            out[name] = state[f"t_embedder.mlp.{layer}.{kind}"].clone()
    return out


def to_diffusers(model: DiT) -> Any:
    """A `DiTTransformer2DModel` with the weights of `model`, whose memory it shares."""
    from accelerate import init_empty_weights
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    with init_empty_weights(include_buffers=False):  # positions are computed, not loaded
        transformer: Any = DiTTransformer2DModel(**_transformer_config(model.config))
    state = to_diffusers_state(model.state_dict(), model.config.depth)
    transformer.load_state_dict(state, strict=True, assign=True)
    return transformer.eval()


def _transformer_config(config: DiTConfig) -> dict[str, Any]:
    return {
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.hidden_size // config.num_heads,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_layers": config.depth,
        "sample_size": config.input_size,
        "patch_size": config.patch_size,
        "num_embeds_ada_norm": PIPELINE_NULL_LABEL,
        "norm_eps": 1e-6,
    }


def export_diffusers(
    model: DiT,
    autoencoder_folder: Path,
    folder: Path,
    *,
    class_names: Sequence[str],
    card: dict[str, Any],
    sampling: Sampling | None = None,
    source: DiT | None = None,
    listen: Listen = unheard,
) -> None:
    """Write a folder that `DiTPipeline.from_pretrained` opens.

    Where `sampling` hands over to `source`, the base model, it has both transformers, and `handover_pipeline.py` that
    draws so; `DiTPipeline` itself draws with the tuned one alone.
    `README.md` is for whoever finds it elsewhere. `difftune.json` holds `card`, under `classes` label and name of each
    class and its name in the pipeline (`export_card.pipeline_name`), and under `pipeline` how far the pipeline's images
    are from our own sampler's, measured on the device of `model` with steps, guidance scale and seed of `sampling`;
    `listen` gives who hears of the images that this draws.
    """
    with uncollected():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae: Any = AutoencoderKL.from_pretrained(autoencoder_folder, use_safetensors=True, local_files_only=True)
    classes = class_table(class_names)
    labels = {entry["id"]: entry["pipeline_name"] for entry in classes}
    sampling = sampling or Sampling()
    parts = {"vae": vae.float(), "scheduler": make_scheduler("ddim", 50, model.config), "id2label": labels}
    pipeline = _pipeline(model, parts, source, sampling.handover)
    pipeline.save_pretrained(folder, safe_serialization=True)
    if sampling.handover:
        shutil.copyfile(Path(__file__).with_name(PIPELINE), folder / PIPELINE)
    forget_place(folder / "vae" / CONFIG)
    device = model.pos_embed.device
    autoencoder = Autoencoder(autoencoder_folder, device)
    pipeline = pipeline.to(device)
    deviation = pipeline_deviation(pipeline, model, autoencoder, sampling, source=source, listen=listen)
    told = {**card, "classes": classes, "pipeline": deviation}
    (folder / CARD).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (folder / README).write_text(readme_of(told, PIPELINE_NULL_LABEL, sampling.handover), encoding="utf-8")


def _pipeline(model: DiT, parts: dict[str, Any], source: DiT | None, handover: float) -> Any:
    """Put the parts together, with the base model's transformer where it is handed over to."""
    if handover:
        from difftune_core.families.dit.handover_pipeline import HandOverDiTPipeline

        assert source is not None, "a hand-over needs the source model"
        base = to_diffusers(source)
        return HandOverDiTPipeline(to_diffusers(model), **parts, base_transformer=base, handover=handover)
    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

    pipeline: Any = DiTPipeline(to_diffusers(model), **parts)
    pipeline.register_to_config(id2label=parts["id2label"])  # its class takes the names and forgets to save them
    return pipeline
