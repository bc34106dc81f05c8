"""Answers that go on: they end with the key that asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.errors import UnauthenticatedError
from api.keys.streams import while_valid

EVERY_S = 0.05


async def pieces(count: int, pause_s: float, ended: list[bool]) -> AsyncIterator[int]:
    try:
        for number in range(count):
            await asyncio.sleep(pause_s)
            yield number
    finally:
        ended.append(True)


def heard(count: int, pause_s: float, *, valid_for: int = 1000) -> tuple[list[int], int]:
    """The pieces that came, and how often the key was looked at."""
    looks, ended = 0, list[bool]()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks > valid_for:
            raise UnauthenticatedError("invalid_api_key", "revoked")

    async def listen() -> list[int]:
        return [piece async for piece in while_valid(pieces(count, pause_s, ended), look, EVERY_S)]

    came = asyncio.run(listen())
    assert ended == [True], "what gives the pieces is told that nobody listens any more"
    return came, looks


def test_all_pieces_come_while_the_key_is_valid() -> None:
    came, looks = heard(5, 0.03)
    assert came == [0, 1, 2, 3, 4]
    assert looks in {1, 2, 3}


def test_pieces_that_come_at_once_cost_no_look() -> None:
    assert heard(5, 0.0) == ([0, 1, 2, 3, 4], 0)


def test_a_silent_answer_ends_with_its_key() -> None:
    assert heard(1, 30.0, valid_for=2) == ([], 3)


def test_an_answer_that_waits_sleeps_until_the_key_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, wait = 0, asyncio.wait

    async def counted(*args: object, **options: object) -> object:
        nonlocal waits
        waits += 1
        return await wait(*args, **options)  # type: ignore[call-overload]  # handed on as they came

    monkeypatch.setattr(asyncio, "wait", counted)
    _, looks = heard(1, 4 * EVERY_S)
    assert waits <= looks + 4
