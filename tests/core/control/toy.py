"""A Stable Diffusion of random values, a data set of rendered scenes, and runs over both, at the smallest scale."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import difftune_core
from cli.demo.scenes import Scenes
from difftune_core.config.card import CARD_FILE, BaseModelCard, read_card
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.files import folder_digest
from difftune_core.hooks import OutcomeEvent
from difftune_core.train.run import train
from tests.core.conftest import RecordingHooks
from workbench.tiny.tokenizer import write_tokenizer

BUNDLED = Path(difftune_core.__file__).parent / "weights"
SIZE, WIDTH, LENGTH = 64, 16, 16
ROWS = 10


def write_stable_diffusion(folder: Path, *, prediction: str = "epsilon", seed: int = 0) -> Path:
    """A diffusers folder of the published anatomy, its weights random and all of them alive."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    blocks = 4
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIZE,
        scaling_factor=0.5,
    )
    tokenizer = write_tokenizer(folder.parent / f"{folder.name}-tokenizer", LENGTH)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        prediction_type=prediction,
    )
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_card(folder)
    return folder


def write_card(folder: Path) -> None:
    """Defaults small enough for a test."""
    card = BaseModelCard(
        id=folder.name,
        family="stable-diffusion",
        image_size=SIZE,
        feature_extractor="tiny-features",
        digest=folder_digest(folder),
        defaults={  # type: ignore[arg-type]  # pydantic makes it a Defaults
            "training": {"ema_decay": 0.0},
            "retention_set": {"num_images": 6, "num_inference_steps": 2},
            "evaluation": {"num_images": 4, "num_inference_steps": 2, "guidance_scale": 2.0},
        },
    )
    (folder / CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")


def write_scenes(folder: Path, rows: int = ROWS, *, controls: str | None = "edge") -> Path:
    """Scenes of world B as an imagefolder, with their true control maps or without."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes, lines = Scenes("b"), []
    for index in range(rows):
        picture = scenes.picture(index)
        Image.fromarray(picture.image).save(folder / f"{index}.png")
        row = {"file_name": f"{index}.png", "text": picture.caption}
        if controls is not None:
            Image.fromarray(picture.controls[controls]).save(folder / f"{index}-control.png")
            row["control_file_name"] = f"{index}-control.png"
        lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class ToyRuns:
    """Base model `toy-sd` and a data set of scenes."""

    root: Path

    @property
    def models(self) -> list[Path]:
        return [self.root / "models", BUNDLED]

    @property
    def data(self) -> Path:
        return self.root / "data"

    def config(
        self,
        method: str = "diff_tuning",
        *,
        control: dict[str, Any] | None = None,
        evaluation: dict[str, Any] | None = None,
        num_samples: int = 0,
        **hyperparameters: object,
    ) -> TransferConfig:
        """A resolved config of 4 steps."""
        given = {"max_steps": 4, "batch_size": 2, "learning_rate": 1e-3, "log_every_steps": 1, **hyperparameters}
        config = TransferConfig.model_validate(
            {
                "model": "toy-sd",
                "method": {"type": method, method: {"hyperparameters": given}},
                "control": {"condition": "edge", "num_validation": 2, **(control or {})},
                "evaluation": {"holdout_fraction": 0.3, **(evaluation or {})},
                "samples": {"num_images": num_samples, "num_inference_steps": 2},
                "seed": 3,
            }
        )
        return resolve(config, read_card(self.root / "models" / "toy-sd"), num_threads=1)

    def folders(self, out: str) -> Folders:
        """Where such a run finds and leaves things."""
        place = self.root / out
        place.mkdir(exist_ok=True)
        return Folders(self.data, None, self.models, self.root / "cache", place)

    def train(self, config: TransferConfig, out: str, hooks: RecordingHooks) -> OutcomeEvent:
        """A whole run."""
        return train(config, self.folders(out), hooks)


def alive(controlnet: torch.nn.Module) -> torch.nn.Module:
    """With zero convolutions that are no longer zero, so that everything before them matters."""
    torch.manual_seed(1)
    for name, parameter in controlnet.named_parameters():
        if "controlnet_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return controlnet
