"""A forward process: how noise enters an image, and what the network is told and asked at each time.

Objectives, samplers and the laws of the time see only the protocol; `docs/diff-tuning.md` has the formulas of all
processes in one table. Shapes: b images, `...` their latent shape. A process's time t is its own: a timestep index
for `ddpm`, in [0, 1] for `flow`, the noise's standard deviation for `edm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from difftune_core.config.sampling import Prediction, ProcessName
from difftune_core.diffusion.edm import EDM
from difftune_core.diffusion.flow import Flow
from difftune_core.diffusion.prediction import implied_x0, output_for
from difftune_core.diffusion.schedule import NUM_TIMESTEPS, NoiseSchedule, linear_betas


@runtime_checkable  # the tests check arguments at run time
class TrainedNoise(Protocol):
    """How noise entered in a network's training, and what the network puts out; its config states both."""

    @property
    def process(self) -> ProcessName:
        """Which forward process."""
        ...

    @property
    def prediction(self) -> Prediction:
        """What the output is, for `ddpm`."""
        ...

    @property
    def learn_sigma(self) -> bool:
        """Whether the output carries a variance behind the prediction."""
        ...

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the latents, for `edm`."""
        ...


@dataclass(frozen=True)
class NoiseConfig:
    """`TrainedNoise` by itself; by default that of the published DiT."""

    process: ProcessName = "ddpm"
    prediction: Prediction = "epsilon"
    learn_sigma: bool = True
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        """Judge what a family of another package states.

        Raises:
            ValueError: a process or a prediction that there is not.
        """
        for field, value, known in (
            ("process", self.process, get_args(ProcessName)),
            ("prediction", self.prediction, get_args(Prediction)),
        ):
            if value not in known:
                raise ValueError(f"{field} is one of {', '.join(known)}, not {value!r}")


@runtime_checkable  # the tests check arguments at run time
class Process(Protocol):
    """What differs between ways of adding noise."""

    def to(self, device: torch.device | str) -> Process:
        """Return the same process with its tables on another device."""
        ...

    def draw_times(
        self, count: int, stream: torch.Generator, share: tuple[float, float] = (0.0, 1.0)
    ) -> Real[Tensor, " {count}"]:
        """Times as in training; `share` limits them to a part of that distribution, the data's end first."""
        ...

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """x_t."""
        ...

    def network_inputs(
        self, x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
        """Return what the network is shown for x_t and told for t."""
        ...

    def target(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Return what the network should put out."""
        ...

    def implied_x0(
        self, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """The clean image that an output implies."""
        ...

    def level(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """Noise level as a share of the chain, 0 at the data and 1 at pure noise: psi = level^tau."""
        ...

    def noise_share(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """1 / (1 + SNR)."""
        ...

    def snr(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal-to-noise ratio: squared scale of x_0 over that of the noise."""
        ...

    def error_ratio(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Squared error of the output per squared error of the x_0 that it implies."""
        ...


@dataclass(frozen=True)
class DDPM:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (Ho et al. 2020); t is an index 0..T-1, drawn uniformly."""

    schedule: NoiseSchedule
    prediction: Prediction = "epsilon"

    def to(self, device: torch.device | str) -> DDPM:
        """Return the process with its tables on another device."""
        return DDPM(self.schedule.to(device), self.prediction)

    def draw_times(
        self, count: int, stream: torch.Generator, share: tuple[float, float] = (0.0, 1.0)
    ) -> Real[Tensor, " {count}"]:
        """Uniform over the timesteps."""
        low, high = (round(end * self.schedule.num_timesteps) for end in share)
        return low + torch.randint(high - low, (count,), generator=stream)

    def add_noise(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """DDPM eq. 4."""
        return self.schedule.add_noise(x0, noise, t)

    def network_inputs(
        self, x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
        """x_t and the index."""
        return x_t, t.float()

    def target(
        self, x0: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Return what the prediction says."""
        return output_for(self.prediction, x0, noise, *self._scales(t, x0))

    def implied_x0(
        self, output: Float[Tensor, "b ..."], x_t: Float[Tensor, "b ..."], t: Real[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Return what the prediction says."""
        return implied_x0(self.prediction, output, x_t, *self._scales(t, x_t))

    def level(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """The paper's t/T; its t runs from 1 to T."""
        return (t + 1).double() / self.schedule.num_timesteps

    def noise_share(self, t: Real[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """1 - abar_t."""
        return 1 - self.schedule.alphas_cumprod.to(t.device)[t].double()

    def snr(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """abar_t / (1 - abar_t)."""
        kept = self.schedule.alphas_cumprod[t]
        return kept / (1 - kept)

    def error_ratio(self, t: Real[Tensor, " b"]) -> Float[Tensor, " b"]:
        """SNR for epsilon, 1 for x0, 1 + SNR for v."""
        snr = self.snr(t)
        return {"epsilon": snr, "x0": torch.ones_like(snr), "v": 1 + snr}[self.prediction]

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        names = ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")
        return self.schedule.at(names[0], t, like), self.schedule.at(names[1], t, like)


def make_process(config: TrainedNoise) -> Process:
    """Make the process that a network was trained on."""
    if config.process == "flow":
        return Flow()
    if config.process == "edm":
        return EDM(config.sigma_data)
    return DDPM(NoiseSchedule(linear_betas(NUM_TIMESTEPS)), config.prediction)
