"""Answers that are read together: what is remembered, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from api import coalescing
from api.coalescing import CoalescedReads
from api.errors import UnavailableError


class Reader:
    """Answers each key with how often it was read; keys below 0 are not there."""

    def __init__(self) -> None:
        self.rounds: list[set[int]] = []
        self.version: int | None = 1
        self.reading = asyncio.Event()

    async def read(self, keys: list[int]) -> Mapping[int, int]:
        self.rounds.append(set(keys))
        self.reading.set()
        await asyncio.sleep(0)
        return {key: sum(key in read for read in self.rounds) for key in keys if key >= 0}


def run(story: Callable[[Reader, CoalescedReads[int, int]], Coroutine[Any, Any, None]]) -> None:
    reader = Reader()
    asyncio.run(story(reader, CoalescedReads(reader.read, lambda: reader.version)))


def test_questions_that_come_together_are_one_round() -> None:
    async def story(reader: Reader, asked: CoalescedReads[int, int]) -> None:
        assert await asyncio.gather(*(asked.ask(key) for key in (1, 2, 1, -3))) == [1, 1, 1, None]
        assert reader.rounds == [{1, 2, -3}]

    run(story)


def test_an_answer_stands_until_anything_has_changed_or_a_second_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(reader: Reader, asked: CoalescedReads[int, int]) -> None:
        assert [await asked.ask(1), await asked.ask(1)] == [1, 1]
        reader.version = 2
        assert [await asked.ask(1), await asked.ask(1)] == [2, 2]
        loop = asyncio.get_running_loop()
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + 1.0)
        assert [await asked.ask(1), await asked.ask(1)] == [3, 3], "read anew stands for a second again"

    run(story)


def test_nothing_is_remembered_where_nobody_can_tell_of_changes() -> None:
    async def story(reader: Reader, asked: CoalescedReads[int, int]) -> None:
        reader.version = None
        assert [await asked.ask(1), await asked.ask(1)] == [1, 2]

    run(story)


def test_what_is_remembered_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "_MOST", 3)

    async def story(_: Reader, asked: CoalescedReads[int, int]) -> None:
        for key in range(20):
            await asked.ask(key)
        assert await asked.ask(19) == 1, "the last one is known"
        assert await asked.ask(0) == 2, "the first one has made room"

    run(story)


def test_a_change_while_it_is_read_makes_an_answer_old() -> None:
    async def story(reader: Reader, asked: CoalescedReads[int, int]) -> None:
        first = asyncio.create_task(asked.ask(1))
        await reader.reading.wait()
        reader.version = 2
        assert await first == 1
        assert await asked.ask(1) == 2

    run(story)


def test_an_error_is_theirs_who_asked_and_of_nobody_after_them() -> None:
    async def story(reader: Reader, asked: CoalescedReads[int, int]) -> None:
        async def broken(_: list[int]) -> Mapping[int, int]:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        asked._read = broken
        found = await asyncio.gather(asked.ask(1), asked.ask(2), return_exceptions=True)
        assert [type(error) for error in found] == [ZeroDivisionError] * 2
        asked._read = reader.read
        assert await asked.ask(1) == 1

    run(story)


def test_who_waits_too_long_is_told_to_come_back_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "PATIENCE_S", 0.01)

    async def story(_: Reader, asked: CoalescedReads[int, int]) -> None:
        async def slow(_: list[int]) -> Mapping[int, int]:
            await asyncio.sleep(60)
            return {}

        asked._read = slow
        with pytest.raises(UnavailableError) as refused:
            await asked.ask(1)
        assert (refused.value.code, refused.value.retry_after_s) == ("busy", 1)

    run(story)
