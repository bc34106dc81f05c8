"""A ControlNet trained beside a frozen Stable Diffusion."""
