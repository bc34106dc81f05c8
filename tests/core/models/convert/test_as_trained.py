"""A DiT of any process and prediction can be brought in, and is sampled as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import difftune_core
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.install import install
from difftune_core.families.table import find_base_model
from difftune_core.hooks import TaskError
from tests.core.conftest import RecordingHooks

VAE = Path(difftune_core.__path__[0]) / "weights" / "tiny-dit" / "vae"
ABAR = float(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[-1])
A, S = ABAR**0.5, (1 - ABAR) ** 0.5


def karras(shown: Tensor, told: Tensor, output: Tensor, sigma_data: float) -> Tensor:
    """D of Karras et al. (2022), table 1, from what the network was shown and told."""
    sigma = float(torch.exp(4 * told[0].double()))
    total = sigma**2 + sigma_data**2
    x = shown * total**0.5
    return sigma_data**2 / total * x + sigma * sigma_data / total**0.5 * output


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "epsilon": ({}, lambda x, _, output: (x - S * output) / A),
    "v": ({"prediction": "v"}, lambda x, _, output: A * x - S * output),
    "x0": ({"prediction": "x0"}, lambda _x, _, output: output),
    "edm": ({"process": "edm"}, lambda x, t, output: karras(x, t, output, 0.5)),
    "edm of other latents": ({"process": "edm", "sigma_data": 1.3}, lambda x, t, output: karras(x, t, output, 1.3)),
}


@pytest.fixture
def published(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, tmp_path / "some.pt")
    return tmp_path / "some.pt"


def request(source: Path, **fields: Any) -> ImportRequest:
    given = {"id": "some", "models": source.parent / "models", "vae": str(VAE), "licence": "MIT", "num_heads": 2}
    return ImportRequest(source=str(source), **{**given, "feature_extractor": "tiny-features", **fields})


@pytest.mark.parametrize(("options", "clean"), CASES.values(), ids=CASES)
def test_a_single_step_from_noise_gives_the_image_that_the_output_implies(
    published: Path, options: dict[str, Any], clean: Any
) -> None:
    install(request(published, **options), RecordingHooks())
    base = find_base_model("some", [published.parent / "models"])
    model = base.load_dit()
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def denoise(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        with torch.no_grad():
            seen.append((x, t, model(x, t, labels)[:, :4]))
        return torch.cat([seen[-1][2], torch.zeros_like(x)], 1)

    sampling = Sampling(sampler="euler" if "process" in options else "ddim", num_inference_steps=1, guidance_scale=1.0)
    drawn = sample_latents(model, torch.tensor([0, 3]), sampling, denoise=denoise)
    ((x, t, output),) = seen
    assert torch.allclose(drawn, clean(x, t, output).float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"process": "flow", "prediction": "v"}, "prediction"),
        ({"process": "edm", "prediction": "x0"}, "prediction"),
        ({"sigma_data": 0.5}, "sigma_data"),
        ({"process": "flow", "sigma_data": 0.5}, "sigma_data"),
    ],
)
def test_an_option_of_another_process_is_refused(published: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(TaskError, match=f"no option {field}") as caught:
        install(request(published, **options), RecordingHooks())
    assert (caught.value.code, caught.value.param) == ("invalid_option", field)
    assert not (published.parent / "models" / "some").exists()
