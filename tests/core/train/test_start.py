from __future__ import annotations

from pathlib import Path

import pytest

from difftune_core.runtime import caches
from difftune_core.train.start import envelope_of
from tests.core.conftest import toy_config

XEON = "processor : 0\nvendor_id : GenuineIntel\ncpu family : 6\nmodel : 143\nflags : fpu avx512f\ncpu MHz : 2600.0\n"
CHANGES = {
    "vendor": ("GenuineIntel", "AuthenticAMD"),
    "model": ("model : 143", "model : 106"),
    "features": ("avx512f", "avx512f amx_int8"),
}


def test_a_processor_that_may_round_otherwise_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where PyTorch's capability is the same, since oneDNN and MKL choose by the model."""
    known = tmp_path / "cpuinfo"
    monkeypatch.setattr(caches, "_CPUINFO", known)

    def processor(text: str) -> str:
        known.write_text(f"{text}\nprocessor : 1\n", encoding="utf-8")
        return str(envelope_of(toy_config(), {})["processor"])

    assert processor(XEON) == processor(XEON.replace("2600.0", "1200.5"))
    assert len({processor(XEON), *(processor(XEON.replace(*change)) for change in CHANGES.values())}) == 4
