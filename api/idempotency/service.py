"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a POST that is sent again takes effect once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.errors import InvalidInputError, MalformedError
from api.idempotency import repository
from difftune_core.files import sha256_json

HEADER = "Idempotency-Key"
_REPLAYED = "Idempotent-Replayed"
_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255})')  # a string of RFC 9651, or bare as Stripe's
PATTERN = r'^\s*("[\x21\x23-\x7e]{1,255}"|[\x21\x23-\x7e]{1,255})\s*$'
"""What the header may be, as OpenAPI declares it."""
OutT = TypeVar("OutT", bound=BaseModel)
Body = BaseModel | dict[str, Any] | None


class Headers(Protocol):
    """What can take a header."""

    def __setitem__(self, key: str, value: str, /) -> None: ...


@dataclass(frozen=True)
class Once:
    """One request, and the key that it carries, if any."""

    tenant_id: str
    scope: str
    key: str | None
    headers: Headers
    """Headers of the response."""

    def answer(self, session: Session, body: Body, shape: type[OutT], act: Callable[[], OutT]) -> OutT:
        """Return what `act` answers, or has answered to the same request before.

        Only what was carried out is remembered: after a refusal the key is free again. `body` is what makes two
        requests the same: the fields that were sent; None where there is no body; of one that was received as a stream,
        its bytes' sha256 and what came beside them.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another body.
        """
        if self.key is None:
            return act()
        if repository.reserve(session, self.tenant_id, self.scope, self.key, _digest(body)):
            made = act()
            repository.keep(session, self.tenant_id, self.scope, self.key, made.model_dump(mode="json"))
            return made
        given = self.given_before(session, body, shape)
        assert given is not None
        return given

    def knows(self, session: Session) -> bool:
        """Return whether a request with this key was carried out."""
        return self.key is not None and repository.find(session, self.tenant_id, self.scope, self.key) is not None

    def given_before(self, session: Session, body: Body, shape: type[OutT]) -> OutT | None:
        """Return what was answered to the same request before, if it was. Raises as `answer`."""
        known = repository.find(session, self.tenant_id, self.scope, self.key) if self.key is not None else None
        if known is None:
            return None
        if known.digest != _digest(body):
            message = f"This {HEADER} came before with another body; a new request needs a new key."
            raise InvalidInputError("idempotency_key_reused", message)
        self.headers[_REPLAYED] = "true"
        return shape.model_validate(known.answer)


def _digest(body: Body) -> str:
    return sha256_json(body.model_dump(mode="json", exclude_unset=True) if isinstance(body, BaseModel) else body)


def key_of(given: str | None) -> str | None:
    """The key that a header states, quoted or bare.

    Raises:
        MalformedError: it is none.
    """
    if given is None:
        return None
    matched = _KEY.fullmatch(given.strip())
    if matched is None:
        message = f"{HEADER} is 1 to 255 printable ASCII characters without spaces and quotation marks."
        raise MalformedError("invalid_idempotency_key", message)
    return matched[1] or matched[2]
