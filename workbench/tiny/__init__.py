"""Scripts that make the bundled tiny models and the synthetic worlds they learn from."""
