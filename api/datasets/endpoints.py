from __future__ import annotations

from functools import partial

from fastapi import APIRouter, BackgroundTasks
from sqlalchemy.orm import Session

from api.datasets import imports, service
from api.datasets.items import item_page
from api.datasets.models import Dataset
from api.datasets.schemas import DatasetImport, DatasetItem, DatasetOut, DatasetReport, dataset_out, report_out
from api.datasets.states import DatasetStatus
from api.deps import After, Limit, OnceDep, ReadSession, ServicesDep, Tenant
from api.errors import InvalidInputError
from api.objects.lost import look_for
from api.routing import KeyedRoute
from api.schemas import Page, page_of
from api.subjects.routes import Routes

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=KeyedRoute)


_routes = Routes(router, Dataset, DatasetOut, lambda _, rows: [dataset_out(row) for row in rows])
_routes.pages(
    "The data sets, newest first.", prefix="ds", statuses=DatasetStatus, about="Only data sets of this status."
)


@router.post("/import")
async def import_dataset(
    body: DatasetImport, tenant: Tenant, used: ServicesDep, once: OnceDep, background: BackgroundTasks
) -> DatasetOut:
    """Make a data set of an object in a bucket that the operator allows (`DIFFTUNE_IMPORT_PREFIXES`)."""
    before = await used.units.read(tenant, lambda session: once.given_before(session, body, DatasetOut))
    if before is not None:  # whatever became of the object since
        return before
    try:
        found = await used.units.other(tenant, lambda: imports.parsed(used.settings, body.uri).stat())
    except ValueError as error:
        raise InvalidInputError("import_not_allowed", str(error), param="uri") from None
    except FileNotFoundError:
        raise InvalidInputError("source_not_found", f"There is no object {body.uri!r}.", param="uri") from None

    def create(session: Session) -> DatasetOut:
        return dataset_out(imports.create(session, used.settings, tenant, body, found))

    made = await used.units.write(
        tenant, lambda session: once.answer(session, body, DatasetOut, partial(create, session))
    )
    background.add_task(used.doorbell.ring)
    return made


_routes.retrieve("One data set.")
_routes.delete("Delete a data set and its files; refused while a job that is not final uses it.", service.delete)


@router.get("/{dataset_id}/report")
def retrieve_dataset_report(dataset_id: str, tenant: Tenant, used: ServicesDep, session: ReadSession) -> DatasetReport:
    """What validation found, every bad file by its name."""
    dataset = service.settled(session, tenant, dataset_id)
    url = None
    if key := dataset.report_key:
        kind = "application/json" if key.endswith(".json") else "application/x-ndjson"
        name = f"{dataset.id}-{key.rpartition('/')[2]}"
        url = used.store.url_get(key, filename=name, content_type=kind, expires_s=used.settings.link_ttl_s)
    return report_out(dataset, url)


@router.get("/{dataset_id}/items")
def list_dataset_items(
    dataset_id: str, tenant: Tenant, used: ServicesDep, *, after: After = None, limit: Limit = 100
) -> Page[DatasetItem]:
    """The accepted images, in the order of the archive."""
    with used.database.read() as session:
        key = service.settled(session, tenant, dataset_id).items_key
    if key:
        look_for(used.store, [key], f"the data set {dataset_id}")
    rows = item_page(used.store, key, after=after, limit=limit + 1) if key else []
    return page_of(rows, limit, lambda item: item)
