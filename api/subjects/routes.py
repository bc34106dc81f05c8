"""The routes that kinds of work have in common: each is written once, and named and described by its kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.orm import Session

from api.deps import After, Limit, OnceDep, Order, ReadSession, Services, ServicesDep, Tenant, WriteSession
from api.ids import cursor
from api.objects import answers
from api.objects.answers import DownloadLink, Redirect
from api.schemas import Deleted, Listed, Page, page_of
from api.storage.cleaning import delete_objects
from api.subjects import files, repository
from api.subjects.models import Owned, OwnedSubject

RowT = TypeVar("RowT", bound=Owned)
OutT = TypeVar("OutT", bound=Listed)


@dataclass(frozen=True)
class Asked:
    """A request that changes something: who asks, and what the endpoint has at hand."""

    tenant: str
    session: Session
    used: Services
    background: BackgroundTasks


class Routes(Generic[RowT, OutT]):
    """Adds to a router the routes of one kind of subject; the row's noun says what the endpoints are called."""

    def __init__(
        self,
        router: APIRouter,
        row: type[RowT],
        out: type[OutT],
        shown: Callable[[Session, Sequence[RowT]], list[OutT]],
    ) -> None:
        """`shown`: rows as they are answered, in their order."""
        self._router, self._row, self._out, self._shown = router, row, out, shown
        self._id = f"{row.noun}_id"

    def create(self, body: type[Any], told: str, make: Callable[[Any, Asked], RowT]) -> None:
        """`POST`: a new subject; `make` makes it of a `body`."""
        create = self._change(make, has_body=True)
        self._add("POST", "", "create", told, create, model=self._out, called="body", given=body)

    def pages(self, told: str, *, prefix: str, statuses: Any, about: str) -> None:
        """`GET`: pages of subjects, of one of the `statuses` where it is given."""

        def list_(
            tenant: Tenant,
            session: ReadSession,
            *,
            after: After = None,
            limit: Limit = 20,
            order: Order = "desc",
            status: Any = None,
        ) -> Any:
            where = [self._row.status == status] if status else []  # type: ignore[attr-defined]  # what is listed has one
            since = cursor(after, prefix)
            rows = repository.page(session, self._row, tenant, *where, after=since, limit=limit + 1, order=order)
            return page_of(self._shown(session, rows), limit, lambda shown: shown)

        status = Annotated[statuses | None, Query(description=about)]
        self._add("GET", "", "list", told, list_, model=Page[self._out], status=status)  # type: ignore[name-defined]  # made here

    def retrieve(self, told: str) -> None:
        """`GET` of one."""

        def retrieve(given: str, tenant: Tenant, session: ReadSession) -> Any:
            return self._one(session, repository.get(session, self._row, tenant, given))

        self._add("GET", "/{}", "retrieve", told, retrieve, model=self._out)

    def act(self, verb: str, told: str, do: Callable[[Asked, str], RowT]) -> None:
        """`POST` of a change: `do` changes the subject of an id."""
        act = self._change(lambda id_, asked: do(asked, id_), has_body=False)
        self._add("POST", f"/{{}}/{verb}", verb, told, act, model=self._out, given=str)

    def delete(self, told: str, delete: Callable[[Session, str, str], list[str]]) -> None:
        """`DELETE`: `delete` gives the keys of the objects that go after the commit."""

        def delete_(
            given: str, tenant: Tenant, used: ServicesDep, session: WriteSession, background: BackgroundTasks
        ) -> Deleted:
            background.add_task(delete_objects, used.store, delete(session, tenant, given))
            background.add_task(used.doorbell.ring)
            return Deleted(id=given, object=self._out.model_fields["object"].default)

        self._add("DELETE", "/{}", "delete", told, delete_, model=Deleted)

    def report(self, told: str, called: Callable[[RowT], str]) -> None:
        """`GET` of a file of the report; `called`: what people call the subject, for the name of the download."""

        def report(
            given: str,
            filename: str,
            tenant: Tenant,
            used: ServicesDep,
            session: ReadSession,
            *,
            redirect: Redirect = True,
        ) -> Response:
            row = repository.get(session, self._row, tenant, given)
            assert isinstance(row, OwnedSubject), "only subjects of work have reports"
            found = files.report(session, row, filename).stored.owned(called(row), row.id)
            return answers.answer(used, found, f"{row.noun} {row.id}", redirect=redirect)

        links = {"responses": {302: {}}, "name": f"retrieve_{self._row.noun}_report"}
        self._add("GET", "/{}/reports/{{filename}}", "retrieve", told, report, model=DownloadLink, options=links)

    def _change(self, do: Callable[[Any, Asked], RowT], *, has_body: bool) -> Callable[..., Any]:
        """An endpoint that takes effect once. Workers look when it is answered, not at their next heartbeat.

        Args:
            do: changes what is `given`, a body or an id; the row that is answered.
            has_body: whether it is a body.
        """

        def change(
            given: Any,
            *,
            tenant: Tenant,
            used: ServicesDep,
            session: WriteSession,
            once: OnceDep,
            background: BackgroundTasks,
        ) -> Any:
            background.add_task(used.doorbell.ring)
            asked = Asked(tenant, session, used, background)
            body = given if has_body else None
            return once.answer(session, body, self._out, lambda: self._one(session, do(given, asked)))

        return change

    def _one(self, session: Session, row: RowT) -> OutT:
        (shown,) = self._shown(session, [row])
        return shown

    def _add(
        self,
        method: str,
        path: str,
        verb: str,
        told: str,
        endpoint: Callable[..., Any],
        *,
        model: Any,
        options: dict[str, Any] | None = None,
        called: str | None = None,
        **annotations: Any,
    ) -> None:
        """Add a route. Its parameter `given`, an id, is `called` after the row unless something else is said.

        `annotations` are those of parameters that differ from kind to kind.
        """
        called = called or self._id
        signature = inspect.signature(endpoint, eval_str=True)
        parameters = [
            parameter.replace(
                name=called if parameter.name == "given" else parameter.name,
                annotation=annotations.get(parameter.name, parameter.annotation),
            )
            for parameter in signature.parameters.values()
        ]

        @wraps(endpoint)
        def run(**values: Any) -> Any:
            return endpoint(**{"given" if name == called else name: value for name, value in values.items()})

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what FastAPI reads
        noun = self._router.prefix.rpartition("/")[2] if verb == "list" else self._row.noun
        named = {"name": f"{verb}_{noun}", "description": told, "response_model": model, **(options or {})}
        self._router.add_api_route(path.format(f"{{{self._id}}}"), run, methods=[method], **named)
