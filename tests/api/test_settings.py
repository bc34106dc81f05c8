from __future__ import annotations

import pytest

from api.settings import SECRETS_DIR, Settings


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Settings()
    for name in (SECRETS_DIR, *(f"DIFFTUNE_{field.upper()}" for field in Settings.model_fields)):
        monkeypatch.setenv(name, "")
    empty = Settings()
    assert {name for name in Settings.model_fields if getattr(empty, name) != getattr(plain, name)} == set()
