"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a POST that is sent again takes effect once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.errors import InvalidInputError, MalformedError
from api.idempotency import repository
from difftune_core.files import sha256_json

HEADER = "Idempotency-Key"
_REPLAYED = "Idempotent-Replayed"
_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255})')  # a string of RFC 9651, or bare as Stripe's
OutT = TypeVar("OutT", bound=BaseModel)


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
    """Of the response."""

    def answer(self, session: Session, body: BaseModel, shape: type[OutT], act: Callable[[], OutT]) -> OutT:
        """What `act` answers, or has answered to the same request before.

        Only what was carried out is remembered: after a refusal the key is free again. A second request with the key of
        one under way waits for its end.

        Raises:
            InvalidInputError: `idempotency_key_reused`, the key came with another body.
        """
        if self.key is None:
            return act()
        place = (session, self.tenant_id, self.scope, self.key)
        digest = sha256_json(body.model_dump(mode="json", exclude_unset=True))
        if repository.reserve(*place, digest):
            made = act()
            repository.keep(*place, made.model_dump(mode="json"))
            return made
        known = repository.get(*place)
        if known.digest != digest:
            message = f"This {HEADER} came before with another body; a new request needs a new key."
            raise InvalidInputError("idempotency_key_reused", message)
        self.headers[_REPLAYED] = "true"
        return shape.model_validate(known.answer)


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
