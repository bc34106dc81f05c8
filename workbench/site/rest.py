"""A page of every request of the API, made of its schema."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_INTRO = """# REST

Every request, as the schema that clients are made from has it ([openapi.json](schemas/openapi.json)). A service shows
the same at `/docs`, where each can be tried. All need `Authorization: Bearer KEY` unless they say otherwise; refusals
are `application/problem+json` with a `code`, and `param` where a field is at fault.
"""
_JSON = "application/json"


def page_of(schema: Json) -> str:
    """Return the page as Markdown.

    Args:
        schema: OpenAPI 3.1, as `docs/schemas/openapi.json`.
    """
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            by_tag[operation.get("tags", ["more"])[0]].append("\n".join(_told(method, path, operation)))
    sections = (f"## {tag.replace('_', ' ').capitalize()}\n\n" + "\n".join(by_tag[tag]) for tag in sorted(by_tag))
    return "\n".join([_INTRO, *sections])


def _told(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    yield f"{operation.get('description', operation.get('summary', ''))}\n"
    if not operation.get("security"):
        yield "Needs no key.\n"
    if parameters := [one for one in operation.get("parameters", []) if one["in"] != "path"]:
        yield "| parameter | in | type | |\n| --- | --- | --- | --- |"
        yield from (_row(one) for one in parameters)
        yield ""
    if (body := operation.get("requestBody")) is not None:
        kinds = ", ".join(f"`{kind}` {_name(content['schema'])}" for kind, content in body["content"].items())
        yield f"Body: {kinds}\n"
    for status, response in operation["responses"].items():
        if status.startswith("2") and (content := response.get("content", {}).get(_JSON)):
            yield f"Answers {status}: {_name(content['schema'])}\n"


def _row(parameter: Json) -> str:
    described = parameter.get("description", "").replace("\n", " ").replace("|", "\\|")
    needed = " (needed)" if parameter.get("required") else ""
    return f"| `{parameter['name']}`{needed} | {parameter['in']} | {_name(parameter['schema'])} | {described} |"


def _name(schema: Json) -> str:
    """Say in a word or two what a schema describes."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_name(part) for part in parts))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_name(schema.get('items', {}))}"
    return str(schema.get("title", "")) if schema.get("type") == "object" else str(schema.get("type", "anything"))
