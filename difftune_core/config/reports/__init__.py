"""What reports hold: one class each, with a version and a published JSON Schema (`docs/schemas`). Pydantic only."""
