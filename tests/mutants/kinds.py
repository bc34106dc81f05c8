"""The kinds of faults: what one expression or statement becomes.

Each kind is a mistake that was made in a program of this sort: a bound off by one, a weight left out of a product, a
part left out of a key, a check that never fires, an argument that is not handed on, a call that is forgotten.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
_WRAPPERS = {"sorted", "abs", "min", "max", "float", "round"}  # not those that copy or turn one collection into another
_SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}
TOLD = {
    *("description", "title", "examples", "json_schema_extra", "help", "summary", "responses", "tags", "stacklevel"),
    *("frozen", "slots"),  # without them nothing is done otherwise
}
"""Arguments that tell people something, or do nothing that a test could see: they are left alone."""
OF_TYPES = {"TypeVar", "ParamSpec", "NewType", "TypeAliasType"}
"""Calls whose arguments type checkers read."""
Change = tuple[str, str]


def of_expression(node: ast.expr) -> Iterator[Change]:
    """Yield what the expression becomes: the kind of the fault and the new text, in parentheses."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            yield "comparison", _text(ast.Compare(node.left, [_COMPARISONS[type(op)]()], node.comparators))
        case ast.BinOp() if not _of_strings(node):
            yield from _of_operation(node)
        case ast.BoolOp() | ast.IfExp() | ast.UnaryOp(op=ast.Not()):
            yield from _of_condition(node)
        case ast.Constant(value=bool()):
            yield "opposite", str(not node.value)
        case ast.Constant(value=int() | float()):
            yield "number", str(node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0)
        case ast.Tuple() | ast.List() | ast.Dict():
            yield from _of_collection(node)
        case ast.Call():
            yield from _of_call(node)


def _of_condition(node: ast.BoolOp | ast.IfExp | ast.UnaryOp) -> Iterator[Change]:
    match node:
        case ast.BoolOp():
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "and or or", _text(ast.BoolOp(other, node.values))
            for index in range(len(node.values)):
                rest = node.values[:index] + node.values[index + 1 :]
                yield "condition left out", _text(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        case ast.UnaryOp():
            yield "not left out", _text(node.operand)
        case ast.IfExp():
            yield "never otherwise", _text(node.body)
            yield "always otherwise", _text(node.orelse)


def _of_collection(node: ast.Tuple | ast.List | ast.Dict) -> Iterator[Change]:
    match node:
        case ast.Dict(keys=[_, _, *_]):
            yield "part left out", _text(ast.Dict(node.keys[:-1], node.values[:-1]))
        case ast.Tuple(elts=[_, _, *_], ctx=ast.Load()) | ast.List(elts=[_, _, *_], ctx=ast.Load()):
            yield "part left out", _text(type(node)(node.elts[:-1], ast.Load()))


def _of_operation(node: ast.BinOp) -> Iterator[Change]:
    if type(node.op) in _OPERATORS:
        yield "operator", _text(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))
    if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        yield "term left out", _text(node.left)
        yield "term left out", _text(node.right)


def _of_call(node: ast.Call) -> Iterator[Change]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _WRAPPERS and node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
        yield "function left out", _text(node.args[0])
    if name in _SWAPPED:
        yield "opposite", _text(ast.Call(ast.Name(_SWAPPED[name], ast.Load()), node.args, node.keywords))
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in TOLD:
            rest = node.keywords[:index] + node.keywords[index + 1 :]
            yield "argument left out", _text(ast.Call(node.func, node.args, rest))
    match node.args:
        case [ast.Name() | ast.Attribute() as first, ast.Name() | ast.Attribute() as second]:
            yield "arguments in the other order", _text(ast.Call(node.func, [second, first], node.keywords))


def of_statement(node: ast.stmt) -> Iterator[Change]:
    """Yield what the statement becomes; its own expressions are looked at apart."""
    match node:
        case ast.Expr(value=ast.Call() | ast.Await(value=ast.Call())):
            yield "call left out", "pass"
        case ast.AugAssign(op=op) if type(op) in _OPERATORS:
            yield "operator", ast.unparse(ast.AugAssign(node.target, _OPERATORS[type(op)](), node.value))
        case ast.If(body=[ast.Raise() | ast.Return() | ast.Continue() | ast.Break()], orelse=[]):
            yield "check left out", "pass"
        case ast.Continue():
            yield "loop", "break"
        case ast.Break():
            yield "loop", "continue"


def _of_strings(node: ast.BinOp) -> bool:
    """Whether text is joined or formatted, or types are united: an operator of another meaning."""
    texts = [part for part in ast.walk(node) if isinstance(part, ast.JoinedStr) or _is_text(part)]
    return bool(texts) or isinstance(node.op, ast.BitOr)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _text(node: ast.expr) -> str:
    return f"({ast.unparse(ast.fix_missing_locations(node))})"
