from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.faults import faults_of, sample

ROOT = Path(__file__).parents[2]

WEIGHTED = b"""
def loss(error, weight, *, mean: "float | int" = 1.0):
    \"\"\"Of weighted errors + nothing.\"\"\"
    if weight < 0:
        raise ValueError(f"{weight + 1}")
    log.info("told", at=1 + 2)
    notify(error, weight, scale=mean)
    return error * weight
"""


def changes(source: bytes) -> set[tuple[str, str, str]]:
    return {(fault.kind, fault.before, fault.after) for fault in faults_of("loss.py", source)}


@pytest.mark.parametrize(
    "change",
    [
        ("term left out", "error * weight", "(error)"),
        ("operator", "error * weight", "(error / weight)"),
        ("comparison", "weight < 0", "(weight <= 0)"),
        ("check left out", 'if weight < 0: raise ValueError(f"{weight + 1}")', "pass"),
        ("call left out", "notify(error, weight, scale=mean)", "pass"),
        ("argument left out", "notify(error, weight, scale=mean)", "(notify(error, weight))"),
        ("arguments in the other order", "notify(error, weight, scale=mean)", "(notify(weight, error, scale=mean))"),
        ("number", "1.0", "2.0"),
    ],
)
def test_a_fault_of_each_kind_is_put_in(change: tuple[str, str, str]) -> None:
    assert change in changes(WEIGHTED)


def test_messages_logging_and_annotations_stay_as_they_are() -> None:
    assert not [
        c for c in changes(WEIGHTED) if c[1] in {"weight + 1", "1 + 2", "float | int"} or c[1].startswith("log.")
    ]


def test_texts_for_people_are_not_left_out_of_calls() -> None:
    source = b"def f(parser):\n    return parser.add(help='what it is', default=name)\n"
    left_out = {after for kind, _, after in changes(source) if kind == "argument left out"}
    assert left_out == {"(parser.add(help='what it is'))"}


def test_a_fault_changes_its_own_place_alone() -> None:
    (fault,) = [f for f in faults_of("loss.py", WEIGHTED) if f.after == "(error)"]
    assert fault.applied(WEIGHTED) == WEIGHTED.replace(b"error * weight", b"(error)")


def test_faults_are_drawn_from_all_over_the_code() -> None:
    faults = sample(ROOT, 200, seed=0)
    assert len({(fault.path, fault.function) for fault in faults}) == len(faults)
    assert {fault.path.partition("/")[0] for fault in faults} == {"difftune_core", "worker", "api"}


CONSTANT = b"""
LIMIT, OTHER = 5, 6


def inside(value, most=7):
    held = value < LIMIT
    return held and value < most


class Settings:
    patience: int = 8

    def waits(self):
        return self.patience
"""


@pytest.mark.parametrize(
    ("before", "lines"), [("5", {6}), ("7", {6, 7}), ("8", {14}), ("6", {6}), ("value < LIMIT", {6})]
)
def test_what_is_set_at_import_concerns_who_reads_it(before: str, lines: set[int]) -> None:
    (fault, *_) = [fault for fault in faults_of("limits.py", CONSTANT) if fault.before == before]
    assert fault.lines == lines


def test_how_long_a_module_waits_and_what_it_takes_at_once_is_left_alone() -> None:
    source = b"_POLL_S = 0.2\n_ROWS = 200\n_SHARE = 0.5\n_TRIES = 3\nMOST = 200\n"
    assert [fault.before for fault in faults_of("limits.py", source)] == ["0.5", "3", "200"]
