"""A worker's bench on PostgreSQL and Redis."""

from __future__ import annotations

import pytest

from tests.worker.conftest import bench, is_alive, settings

__all__ = ["bench", "is_alive", "settings"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/services/" in item.path.as_posix():
            item.add_marker(pytest.mark.services)


@pytest.fixture
def database_kind() -> str:
    return "postgresql"
