"""The faults that `make mutants` puts into the code, one at a time: of the kinds that real bugs have."""

from __future__ import annotations

import ast
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.mutants import kinds
from tests.mutants.notes import FOLDERS

_MANY = 50
_SILENT_CALLS = ("log.", "logger.", "_log.", "warnings.")


@dataclass(frozen=True)
class Fault:
    """One change of one file: the bytes from `start` to `end` become `after`."""

    path: str
    line: int
    function: str
    kind: str
    before: str
    after: str
    start: int
    end: int
    read_in: frozenset[int] | None = None
    """Lines that read what it changes, where its own line runs at import alone and says nothing of who is concerned."""

    @property
    def lines(self) -> frozenset[int]:
        """Say which lines a test must run to be concerned."""
        return frozenset({self.line}) if self.read_in is None else self.read_in

    @property
    def place(self) -> str:
        """Say where the fault is and what it does, whatever the line's number: names a fault over many commits."""
        return f"{self.path}:{self.function}: {self.kind}: {self.before} -> {self.after}"

    def applied(self, source: bytes) -> bytes:
        """Return the file's bytes with the fault in them."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def named(root: Path, places: frozenset[str]) -> list[Fault]:
    """Find the faults of these places that can still be put in."""
    return [fault for fault in _all_faults(root) if fault.place in places]


def sample(root: Path, count: int, seed: int) -> list[Fault]:
    """Draw `count` faults, spread over the functions: none has a second one before each had one."""
    by_function: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in _all_faults(root):
        by_function[fault.path, fault.function].append(fault)
    draw = random.Random(seed)
    for faults in by_function.values():
        draw.shuffle(faults)
    functions = sorted(by_function)
    draw.shuffle(functions)
    rounds = max(map(len, by_function.values()))
    order = (by_function[f][turn] for turn in range(rounds) for f in functions if turn < len(by_function[f]))
    return list(islice((fault for fault in order if _compiles(fault, root)), count))


def _all_faults(root: Path) -> Iterator[Fault]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            yield from faults_of(name, path.read_bytes())


def faults_of(path: str, source: bytes) -> list[Fault]:
    """Return every fault that can be put into a file."""
    tree = ast.parse(source)
    visitor = _Visitor(path, source, reads_of(tree))
    visitor.visit(tree)
    return visitor.faults


class _Visitor(ast.NodeVisitor):
    """Walks the statements that do something: no annotations, no messages, no logging."""

    def __init__(self, path: str, source: bytes, reads: Mapping[str, frozenset[int]]) -> None:
        self._path, self._source, self._reads = path, source, reads
        self._read_in: frozenset[int] | None = frozenset()
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._names: list[str] = []
        self.faults: list[Fault] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom | ast.Global):
            return
        if isinstance(node, ast.expr):
            self._collect(node, kinds.of_expression(node))
        elif isinstance(node, ast.stmt):
            self._collect(node, kinds.of_statement(node))
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
        self._inside(node.name, defaults, self._read_in if self._read_in is None else lines_of(node.body))
        self._inside(node.name, node.body, None)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)  # type: ignore[arg-type]  # read alike

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node.name, node.body, self._read_in)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._set(node.targets, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._set([node.target], node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not (isinstance(node.value, ast.Constant) or _is_silent(node.value)):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in kinds.OF_TYPES:
            return
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in kinds.TOLD]
        self.generic_visit(node)

    def _inside(self, name: str, nodes: Sequence[ast.AST] | Sequence[ast.stmt], read_in: frozenset[int] | None) -> None:
        outer, self._read_in = self._read_in, read_in
        self._names.append(name)
        for node in nodes:
            self.visit(node)
        self._names.pop()
        self._read_in = outer

    def _set(self, targets: Sequence[ast.expr], value: ast.expr) -> None:
        outer = self._read_in
        if not self._names and _is_tuning(targets, value):
            return
        if outer is not None:
            names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            self._read_in = frozenset().union(*(self._reads.get(name, frozenset()) for name in names))
        self.visit(value)
        self._read_in = outer

    def _collect(self, node: ast.expr | ast.stmt, changes: Iterator[tuple[str, str]]) -> None:
        if isinstance(node, ast.Expr) and _is_silent(node.value):
            return
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        before = " ".join(self._source[start:end].decode().split())
        function = ".".join(self._names) or "<module>"
        for kind, after in changes:
            self.faults.append(
                Fault(self._path, node.lineno, function, kind, before[:120], after, start, end, self._read_in)
            )


def _is_tuning(targets: Sequence[ast.expr], value: ast.expr) -> bool:
    """Whether a module says for itself how long it waits, or how many of something large it takes at once.

    A second more or less, a row more in 200, is nobody's bug. What a user may state or read is elsewhere.
    """
    match targets, value:
        case [ast.Name(id=name)], ast.Constant(value=int() | float() as number) if name.startswith("_"):
            return name.endswith("_S") or (isinstance(number, int) and number >= _MANY)
    return False


def reads_of(tree: ast.Module) -> dict[str, frozenset[int]]:
    """Return, for each name, the lines inside functions that read it, as a variable or as an attribute."""
    reads: dict[str, set[int]] = defaultdict(set)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in (inner for statement in function.body for inner in ast.walk(statement)):
                if isinstance(node, ast.Name):
                    reads[node.id].add(node.lineno)
                elif isinstance(node, ast.Attribute):
                    reads[node.attr].add(node.lineno)
    return {name: frozenset(lines) for name, lines in reads.items()}


def lines_of(body: Sequence[ast.stmt]) -> frozenset[int]:
    """Return the lines on which a function's statements begin."""
    return frozenset(node.lineno for statement in body for node in ast.walk(statement) if isinstance(node, ast.stmt))


def _is_silent(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_SILENT_CALLS)


def _compiles(fault: Fault, root: Path) -> bool:
    with warnings.catch_warnings(action="ignore"):
        try:
            compile(fault.applied((root / fault.path).read_bytes()), fault.path, "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True
