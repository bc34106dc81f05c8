"""What a request may not hold: query parameters that nobody reads, integers and booleans that only look like some, and
a field of its body twice.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, get_args, get_origin

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.errors import InvalidInputError

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")  # as in JSON; Python takes ` 5`, `+5`, `5_0` and `5.0` too
_BOOLEANS = ("true", "false", "1", "0")  # pydantic takes `yes`, `on` and `t` too


class RepeatedFieldError(json.JSONDecodeError):
    """An object of the body has a field twice; parsers differ in which of the two counts."""

    def __init__(self, field: str, doc: str) -> None:
        """`field` is the name, `doc` the body."""
        super().__init__(f"the field {field!r} is there twice", doc, 0)
        self.field = field


@dataclass(frozen=True)
class _Parameter:
    repeats: bool = False
    is_integer: bool = False
    is_boolean: bool = False
    has_keys: bool = False
    """Whether the parameter is sent as `name[key]=value`."""


class StrictRoute(APIRoute):
    """A route that refuses a JSON body with a field twice. Every router of ours has it as its `route_class`."""

    takes_whole: ClassVar[bool] = True
    """Whether a POST whose body nobody reads is carried out only when that has arrived whole."""

    @cached_property
    def parameters(self) -> dict[str, _Parameter]:
        """The query parameters that the route declares, by name."""
        declared = (self.openapi_extra or {}).get("parameters", [])
        extra = {
            parameter["name"]: _Parameter(has_keys=parameter.get("style") == "deepObject")
            for parameter in declared
            if parameter["in"] == "query"
        }
        return extra | {name: _declared(kind) for name, kind in _queried(self.dependant)}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        nobody_reads = self.takes_whole and self.body_field is None and self.dependant.request_param_name is None

        async def handle_strictly(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            if nobody_reads and request.method == "POST":
                await strict.body()  # a request that does not arrive whole changes nothing
            return await handle(strict)

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            text = (await self.body()).decode("utf-8")
            self._json = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, text))
        return self._json


def _unique(pairs: list[tuple[str, Any]], text: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((field, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise RepeatedFieldError(field, text)
    return found


async def only_known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not declare, or gets twice, or that only looks like its type.

    Raises:
        InvalidInputError: `unknown_parameter`, `repeated_parameter` or `invalid_value`, with the parameter's name.
    """
    if not request.scope["query_string"]:
        return
    route: StrictRoute = request.scope["route"]
    known = route.parameters
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        found = known.get(name)
        base, bracket, _ = name.partition("[")
        if bracket and base in known and known[base].has_keys:
            found = known[base]
        if found is None:
            shown = ", ".join(f"{name}[...]" if known[name].has_keys else name for name in sorted(known))
            message = f"{request.method} {route.path} has no parameter {name[:64]!r}; it takes {shown or 'none'}."
            raise _refused("unknown_parameter", name, message)
        if count > 1 and not found.repeats:
            raise _refused("repeated_parameter", name, f"The parameter {name!r} is there {count} times.")
        if found.is_integer and not _INTEGER.fullmatch(request.query_params[name]):
            raise _refused("invalid_value", name, f"{name}: this is no integer, written in decimal digits.")
        if found.is_boolean and request.query_params[name] not in _BOOLEANS:
            raise _refused("invalid_value", name, f"{name}: this is neither `true` nor `false` (or `1`, `0`).")


def _refused(code: str, name: str, message: str) -> InvalidInputError:
    fault = {"parameter": name, "code": code, "detail": message}
    return InvalidInputError(code, message, param=name, pointer=None, errors=[fault])


def _queried(dependant: Dependant) -> Iterator[tuple[str, Any]]:
    for field in dependant.query_params:
        yield field.alias, field.field_info.annotation
    for further in dependant.dependencies:
        yield from _queried(further)


def _declared(annotation: Any) -> _Parameter:
    kinds = (annotation, *get_args(annotation))
    return _Parameter(
        repeats=any(get_origin(kind) is list for kind in kinds), is_integer=int in kinds, is_boolean=bool in kinds
    )
