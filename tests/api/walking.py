"""All operations of the app, and all ways in which a body can be wrong: what tests over every route walk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

Json = dict[str, Any]
_KINDS: dict[str, Any] = {"object": {}, "string": "x", "integer": 3, "array": [], "number": 0.5, "boolean": True}
_WRONG_KINDS = 2  # of each value


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    document: Json

    @property
    def url(self) -> str:
        """The path with an id of nothing in each place."""
        return re.sub(r"\{\w+\}", "x", self.path)

    def takes(self, url: str) -> bool:
        """Whether the URL is one of this path."""
        return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", self.path), url) is not None

    @property
    def body(self) -> Json | None:
        """Schema of its JSON body."""
        content = self.document.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")


def operations(app: FastAPI) -> list[Operation]:
    found = []
    for path, methods in app.openapi()["paths"].items():
        found += [Operation(method.upper(), path, document) for method, document in methods.items()]
    return found


Path = tuple[str | int, ...]


class Bodies:
    """Bodies that are right but for one value, made from JSON Schema."""

    def __init__(self, app: FastAPI) -> None:
        self._schemas = app.openapi()["components"]["schemas"]
        self._walked: set[str] = set()

    def wrong(self, schema: Json) -> Iterator[tuple[Path, Json]]:
        """Each with the path of what is wrong; a named schema is walked at the first place where it is used."""
        for path, value in self._wrong(schema, ()):
            yield path, self._whole(schema, path, value)

    def _wrong(self, schema: Json, path: Path) -> Iterator[tuple[Path, Any]]:
        if self._was_walked(schema):
            return
        schema = self._resolved(schema)
        members = schema.get("anyOf") or schema.get("oneOf") or [schema]
        taken = {self._resolved(member).get("type") for member in members}
        if None not in taken:  # any value is right
            right = taken | ({"integer"} if "number" in taken else set())
            others = [value for kind, value in _KINDS.items() if kind not in right]
            yield from ((path, value) for value in others[:_WRONG_KINDS])
            if "null" not in taken and path:
                yield path, None
        for member in members:
            yield from self._wrong_of_kind(member, path)

    def _wrong_of_kind(self, schema: Json, path: Path) -> Iterator[tuple[Path, Any]]:
        if self._was_walked(schema):
            return
        schema = self._resolved(schema)
        for limit, value in _beyond(schema):
            if limit in schema:
                yield path, value
        for name, member in schema.get("properties", {}).items():
            yield from self._wrong(member, (*path, name))
            if name in schema.get("required", ()):
                yield (*path, name), ...
        if schema.get("additionalProperties") is False:
            yield (*path, "nobody_reads_this"), 1
        for number, member in enumerate(schema.get("prefixItems", ())):
            yield from self._wrong(member, (*path, number))
        if isinstance(schema.get("items"), dict):
            yield from self._wrong(schema["items"], (*path, 0))

    def _was_walked(self, schema: Json) -> bool:
        name = schema.get("$ref", "").rpartition("/")[2]
        was = name in self._walked
        self._walked |= {name} - {""}
        return was

    def _whole(self, schema: Json, path: Path, value: Any) -> Any:
        """The smallest body that has `value` at `path`; `...` leaves it out."""
        schema = self._member(schema, path)
        if not path:
            return value
        step, *rest = path
        if isinstance(step, int):
            places = schema.get("prefixItems") or [schema["items"]]
            return (
                [self._right(place) for place in places[:step]]
                + [self._whole(places[min(step, len(places) - 1)], tuple(rest), value)]
                + [self._right(place) for place in places[step + 1 :]]
            )
        body = {name: self._right(schema["properties"][name]) for name in schema.get("required", ())}
        if value is ... and not rest:
            return {name: held for name, held in body.items() if name != step}
        member = schema.get("properties", {}).get(step, {})
        return body | {step: self._whole(member, tuple(rest), value)}

    def _right(self, schema: Json) -> Any:
        schema = self._member(schema, ())
        if "default" in schema or "const" in schema or "enum" in schema:
            return schema.get("default", schema.get("const", (schema.get("enum") or [None])[0]))
        if schema.get("type") == "object":
            return {name: self._right(schema["properties"][name]) for name in schema.get("required", ())}
        if schema.get("type") == "array":
            places = schema.get("prefixItems") or [schema["items"]] * schema.get("minItems", 0)
            return [self._right(place) for place in places]
        simple = {"integer": int(schema.get("minimum", 1)), "number": schema.get("minimum", 1), "boolean": True}
        return simple.get(schema.get("type", ""), "x" * max(1, schema.get("minLength", 1)))

    def _member(self, schema: Json, path: Path) -> Json:
        """Of a union the member that has the path's next step."""
        schema = self._resolved(schema)
        members = [self._resolved(member) for member in schema.get("anyOf") or schema.get("oneOf") or [schema]]
        kind = "array" if path and isinstance(path[0], int) else "object"
        for member in members:
            if path and member.get("type") == kind and (kind == "array" or path[0] in member.get("properties", {})):
                return member
        return members[0]

    def _resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema


def _beyond(schema: Json) -> list[tuple[str, Any]]:
    return [
        ("minItems", [_KINDS["string"]] * (schema.get("minItems", 1) - 1)),
        ("minItems", []),
        ("maxItems", [_KINDS["number"]] * min(schema.get("maxItems", 0) + 1, 2000)),
        ("minLength", "x" * (schema.get("minLength", 1) - 1)),
        ("maxLength", "x" * min(schema.get("maxLength", 0) + 1, 20_000)),
        ("pattern", "\u0000"),
        ("minimum", schema.get("minimum", 0) - 1),
        ("maximum", schema.get("maximum", 0) + 1),
        ("exclusiveMinimum", schema.get("exclusiveMinimum")),
        ("exclusiveMaximum", schema.get("exclusiveMaximum")),
        ("enum", "none of them"),
        ("const", "another"),
    ]
