"""Multipart forms read as they arrive: a file of a form goes to the store in chunks and is never on disk between."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import InvalidInputError, MalformedError, TooLargeError
from api.storage import ObjectInfo, ObjectStore

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 32
FORM_REST_BYTES = 1 << 20  # of a form, beside its file
_MAX_BOUNDARY_BYTES = 70  # RFC 2046, 5.1.1


@dataclass
class FormPart:
    """One field of a form. `chunks` must be read to its end before the next part is asked for."""

    name: str
    filename: str | None
    chunks: Iterator[bytes]

    def text(self) -> str:
        """The value of a plain field.

        Raises:
            TooLargeError: it is longer than any field of ours.
        """
        value = b"".join(limited_field(self.chunks, _MAX_FIELD_BYTES, self.name))
        return value.decode("utf-8", errors="replace")


def read_form(content_type: str | None, body: Iterable[bytes]) -> Iterator[FormPart]:
    """The parts of a multipart form, in their order.

    Raises:
        MalformedError: it is no multipart form, or is cut off.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        message = f"The body must be multipart/form-data with a boundary of at most {_MAX_BOUNDARY_BYTES} characters."
        raise MalformedError("not_multipart", message)
    events = _events(boundary, body)
    for count, headers in enumerate(events):
        if count >= _MAX_FIELDS or not isinstance(headers, dict):
            raise MalformedError("malformed_form", f"The form cannot be read, or has more than {_MAX_FIELDS} fields.")
        _, disposition = parse_options_header(headers.get("content-disposition", b""))
        name, filename = disposition.get(b"name", b""), disposition.get(b"filename")
        part = FormPart(_text(name), None if filename is None else _text(filename), _until_end(events))
        yield part
        deque(part.chunks, maxlen=0)


def limited(chunks: Iterable[bytes], max_bytes: int, *, what: str, param: str | None = None) -> Iterator[bytes]:
    """The chunks, counted; `what` and `param` name in words and to programs what they are of.

    Raises:
        TooLargeError: there are more than `max_bytes`.
    """
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > max_bytes:
            message = f"{what} is larger than {max_bytes} bytes."
            pointer = f"#/{param}" if param else None
            raise TooLargeError("too_large", message, param=param, pointer=pointer, max_bytes=max_bytes)
        yield chunk


def limited_field(chunks: Iterable[bytes], max_bytes: int, name: str) -> Iterator[bytes]:
    """Limit the form's field `name`, as `limited` does a file."""
    return limited(chunks, max_bytes, what=f"The field {name!r}", param=name)


@dataclass(frozen=True)
class StoredForm:
    """A form whose file lies in the store, and its other fields."""

    file: ObjectInfo
    filename: str
    fields: dict[str, str]


def store_form(
    content_type: str | None,
    body: Iterable[bytes],
    *,
    store: ObjectStore,
    key: str,
    field: str,
    max_bytes: int,
    others: Collection[str] = (),
) -> StoredForm:
    """Put the file of the form's `field` under `key`; nothing stays in the store when anything is wrong.

    Raises:
        MalformedError: as `read_form`, or a field is there twice.
        InvalidInputError: there is no such file, or a field that is none of `others`.
        TooLargeError: the file has more than `max_bytes`.
    """
    form = read_form(content_type, limited(body, max_bytes + FORM_REST_BYTES, what="The form"))
    try:
        return _stored(_known(form, {field, *others}), store, key, field, max_bytes)
    except Exception:
        store.delete(key)
        raise


def _known(form: Iterable[FormPart], names: Collection[str]) -> Iterator[FormPart]:
    seen: set[str] = set()
    for part in form:
        if part.name not in names:
            raise InvalidInputError("unknown_field", f"There is no form field {part.name!r}.", param=part.name)
        if part.name in seen:
            raise MalformedError("malformed_form", f"The form has the field {part.name!r} twice.")
        seen.add(part.name)
        yield part


def _stored(form: Iterable[FormPart], store: ObjectStore, key: str, field: str, max_bytes: int) -> StoredForm:
    stored: ObjectInfo | None = None
    filename, fields = "", {}
    for part in form:
        if part.name == field:
            filename = part.filename or ""
            stored = store.put_stream(key, limited_field(part.chunks, max_bytes, field))
        else:
            fields[part.name] = part.text()
    if stored is None:
        raise InvalidInputError("missing_field", f"The form field {field!r} is required.", param=field)
    return StoredForm(stored, filename, fields)


_Event = dict[str, bytes] | bytes | None  # headers begin a part, None ends it, bytes are its data


def _until_end(events: Iterator[_Event]) -> Iterator[bytes]:
    for event in events:
        if not isinstance(event, bytes):
            return
        yield event


def _events(boundary: bytes, body: Iterable[bytes]) -> Iterator[_Event]:
    found: deque[_Event] = deque()
    collector = _Collector(found)
    parser = MultipartParser(boundary, collector.callbacks())
    for chunk in body:
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise MalformedError("malformed_form", f"The multipart form cannot be read: {error}") from None
        while found:
            yield found.popleft()
    if not collector.whole:
        raise MalformedError("malformed_form", "The multipart form is cut off.")


class _Collector:
    """Turns the parser's calls into events."""

    def __init__(self, found: deque[_Event]) -> None:
        self.whole = False
        self._found = found
        self._headers: dict[str, bytes] = {}
        self._name = self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": lambda: self._found.append(dict(self._headers)),
            "on_part_data": lambda data, start, end: self._found.append(bytes(data[start:end])),
            "on_part_end": lambda: self._found.append(None),
            "on_end": self._on_end,
        }

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[_text(self._name).lower()] = self._value
        self._name = self._value = b""

    def _on_end(self) -> None:
        self.whole = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
