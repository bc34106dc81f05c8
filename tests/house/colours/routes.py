from __future__ import annotations

from typing import Literal

from colours.kind import COLOUR_COUNTS, ColourCount
from fastapi import APIRouter

from api.datasets.models import Dataset
from api.routing import KeyedRoute
from api.schemas import In
from api.subjects.plain import PlainOut, plain_out
from api.subjects.repository import get
from api.subjects.routes import Asked, Routes
from api.subjects.states import Status


class ColourCountCreate(In):
    """What to count."""

    training_file: str
    """Id of a data set."""


class ColourCountOut(PlainOut):
    """The colours of a data set's images."""

    object: Literal["colour_count"] = "colour_count"


def _created(body: ColourCountCreate, asked: Asked) -> ColourCount:
    dataset = get(asked.session, Dataset, asked.tenant, body.training_file, lock=True)
    config = {"training_file": dataset.id}
    return COLOUR_COUNTS.create(asked.session, asked.tenant, config, needs=[dataset.id], total=3)


router = APIRouter(prefix="/v1/colour_counts", tags=["colour counts"], route_class=KeyedRoute)
routes = Routes(router, ColourCount, ColourCountOut, plain_out(ColourCountOut, router.prefix))
routes.create(ColourCountCreate, "Have colours counted.", _created)
routes.pages("The counts, newest first.", prefix="count", statuses=Status, about="Only counts of this status.")
routes.retrieve("One count.")
routes.act("cancel", "End a count.", lambda asked, id_: COLOUR_COUNTS.cancel(asked.session, asked.tenant, id_))
routes.delete("Delete a final count.", COLOUR_COUNTS.delete)
routes.report("A file of the count, by a link that expires.", lambda count: count.config["training_file"])
