"""What guidance has to do with it: finished runs of `benchmarks.transfer` judged again under several guidances.

Retention trains the null branch, which classifier-free guidance subtracts; without guidance, and guided by the base
model's null branch (Domain Guidance), a gain of the class branch can be told from a better negative branch.
`python -m benchmarks.guidance --folder build/transfer --methods supervised algorithm1 --seeds 0 1 2`
The last line is one JSON object: for each method and guidance mean and standard deviation of FID and KID over seeds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import difftune_core
from benchmarks.statistics import spread
from difftune_core.checkpoint.manifest import MODEL, newest_whole
from difftune_core.data.dataset import load_images, open_dataset
from difftune_core.diffusion.sampler import Sampling, sample_latents
from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.features import load_extractor
from difftune_core.models.registry import BaseModel, find_base_model
from difftune_core.models.transfer import with_classes

GUIDANCES = {
    "none": Sampling(guidance_scale=1.0),
    "cfg 1.5": Sampling(guidance_scale=1.5),
    "cfg 2": Sampling(guidance_scale=2.0),
    "domain 1.5": Sampling(guidance_scale=1.5, guidance="domain"),
}
_BUNDLED = Path(difftune_core.__path__[0]) / "tiny" / "weights"


class Judged:
    """Judges checkpoints of one base model."""

    def __init__(self, base: BaseModel, args: argparse.Namespace) -> None:
        self._base, self._args = base, args
        self._source = base.load_dit().eval()
        self._autoencoder = base.load_autoencoder()
        self._extractor = load_extractor(_BUNDLED / base.card.feature_extractor)

    def figures(self, run: Path, validation: Path) -> dict[str, dict[str, float]]:
        """FID and KID of the run's last checkpoint under each guidance."""
        found = newest_whole(run / "checkpoints")
        assert found is not None, f"{run} has no checkpoint"
        held_out = open_dataset(validation)
        model = with_classes(self._source, len(held_out.class_names), "reuse_rows")
        model.load_state_dict(load_file(found[0] / MODEL))
        real = self._extractor(load_images(held_out, self._base.card.image_size)[0])
        labels = torch.arange(self._args.num_images) % len(held_out.class_names)
        result = {}
        for name, sampling in GUIDANCES.items():
            settings = replace(sampling, num_inference_steps=self._args.num_inference_steps)
            latents = sample_latents(model.eval(), labels, settings, source=self._source)
            compared = compare(real, self._extractor(self._autoencoder.decode(latents)))
            result[name] = {"fid": compared["fid"], "kid": compared["kid"]}
        return result


def _validation(inputs: Path) -> Path:
    """The held-out archive that `benchmarks.targets` wrote."""
    return next(inputs.glob("*validation.zip"))


def main() -> None:
    """Judge every run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/transfer"))
    parser.add_argument("--methods", nargs="+", default=["supervised", "algorithm1"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-images", type=int, default=500)
    parser.add_argument("--num-inference-steps", type=int, default=25)
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judged = Judged(find_base_model("tiny-dit", [_BUNDLED]), args)
    rows: dict[str, Any] = {}
    for method in args.methods:
        runs = [
            judged.figures(args.folder / f"{method}-{seed}", _validation(args.folder / f"input-{seed}"))
            for seed in args.seeds
        ]
        rows[method] = {
            name: {figure: spread([run[name][figure] for run in runs]) for figure in ("fid", "kid")}
            for name in GUIDANCES
        }
    text = json.dumps({"seeds": args.seeds, "num_images": args.num_images, "rows": rows})
    if args.save is not None:
        args.save.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
