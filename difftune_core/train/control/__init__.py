"""Training a ControlNet beside a frozen Stable Diffusion."""
