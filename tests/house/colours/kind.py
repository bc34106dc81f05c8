from __future__ import annotations

from api.subjects.plain import PlainKind, PlainSubject


class ColourCount(PlainSubject):
    """The colours of a data set's images, counted."""

    noun = "colour_count"
    __mapper_args__ = {"polymorphic_identity": "count_colours"}  # noqa: RUF012  # SQLAlchemy's own


class _ColourCounts(PlainKind[ColourCount]):
    name = "count_colours"
    folder = "colour_counts"
    noun = "colour count"
    child = "counting"
    activity = "colours.activity:Counting"
    router = "colours.routes:router"
    uses = frozenset({"ds"})
    prefix = "count"
    row = ColourCount


COLOUR_COUNTS = _ColourCounts()
