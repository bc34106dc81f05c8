"""Diffusion transformers that draw classes, tuned as a whole or through an adapter."""
