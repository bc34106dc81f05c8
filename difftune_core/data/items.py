"""What data sets are made of: an image with its class, or with its caption and perhaps a control image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from difftune_core.data.colour import BLACK, WHITE

Role = Literal["image", "control"]
GROUNDS: dict[Role, tuple[int, int, int]] = {"image": WHITE, "control": BLACK}
"""What shows through transparent pixels."""


@runtime_checkable
class Item(Protocol):
    """An accepted image with what belongs to it."""

    @property
    def path(self) -> str:
        """The image's file."""

    @property
    def sha256(self) -> str:
        """Checksum of the image's file."""

    @property
    def contents(self) -> tuple[str | None, ...]:
        """What the image is to a run, whatever its files are called: label, then sha256 of each file, None for none."""

    @property
    def files(self) -> Iterator[tuple[Role, str, str]]:
        """Role, path and sha256 of each of its files."""


ItemT = TypeVar("ItemT", bound=Item)
Item_co = TypeVar("Item_co", bound=Item, covariant=True)


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image with its class; width and height in pixels as shown."""

    path: str
    class_name: str
    bytes: int
    width: int
    height: int
    format: str
    sha256: str

    @property
    def contents(self) -> tuple[str, str]:
        """Class name and sha256 of the file."""
        return self.class_name, self.sha256

    @property
    def files(self) -> Iterator[tuple[Role, str, str]]:
        """The image alone."""
        yield "image", self.path, self.sha256


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """A row whose files are whole and fit each other; width and height in pixels as shown."""

    path: str
    caption: str
    width: int
    height: int
    sha256: str
    control: str | None
    control_sha256: str | None

    @property
    def contents(self) -> tuple[str, str, str | None]:
        """Caption, and sha256 of image and control."""
        return self.caption, self.sha256, self.control_sha256

    @property
    def files(self) -> Iterator[tuple[Role, str, str]]:
        """The image, and its control where it has one."""
        yield "image", self.path, self.sha256
        if self.control is not None and self.control_sha256 is not None:
            yield "control", self.control, self.control_sha256
