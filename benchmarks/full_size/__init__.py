"""A whole job at the size of DiT-XL/2 or of Stable Diffusion 1.5, through the service: what each phase of it takes."""
