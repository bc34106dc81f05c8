"""Files of one stem, as webdataset and most taggers write them: `0001.png`, `0001.txt` and `0001.control.png`.

The stem is the file's name up to its last dot, so that names may hold dots. Captions are `.txt` or `.caption` files, or
in the `.json` that img2dataset writes; `.cls` files name classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from difftune_core.data.captions import caption, decoded
from difftune_core.data.formats import ENDINGS, ending_of
from difftune_core.data.layout import View, class_root
from difftune_core.data.members import Member, RefusedError, clean_name
from difftune_core.data.tables import CAPTION_COLUMNS, find

TEXT_ENDINGS = ("txt", "caption")
CLASS_ENDING = "cls"
CONTROL_FOLDERS = frozenset(
    {"control", "controls", "condition", "conditions", "conditioning", "conditioning_image", "conditioning_images"}
)
_CONTROL = ".control"
_MAJORITY = 0.5


@dataclass
class Sample:
    """Files of one stem, by their endings."""

    images: list[Member] = field(default_factory=list)
    controls: list[Member] = field(default_factory=list)
    beside: dict[str, Member] = field(default_factory=dict)

    @property
    def files(self) -> list[Member]:
        """All files of the stem."""
        return [*self.images, *self.controls, *self.beside.values()]

    @property
    def text(self) -> Member | None:
        """The file whose whole content is the caption."""
        return next((self.beside[ending] for ending in TEXT_ENDINGS if ending in self.beside), None)


def _has_only_pictures(view: View) -> bool:
    """Return whether no file lies beside the pictures, so that no stem has more than one file of use."""
    return all(ending_of(member.path) in ENDINGS for member in view.members)


def samples_of(view: View) -> list[Sample]:
    """The files of each stem, in the order of the archive; a control image may lie in a folder of its own."""
    found: dict[str, Sample] = {}
    pictures = {member.path for member in view.members if ending_of(member.path) in ENDINGS}
    for member in view.members:
        ending = ending_of(member.path)
        stem = member.path[: len(member.path) - len(ending) - 1] if ending else member.path
        if ending in ENDINGS:
            is_control = stem.endswith(_CONTROL) and not stem.endswith(f"/{_CONTROL}")
            sample = found.setdefault(stem.removesuffix(_CONTROL) if is_control else stem, Sample())
            (sample.controls if is_control else sample.images).append(member)
        else:  # `0001.png.txt` belongs to `0001.png`
            stem = stem.rpartition(".")[0] if stem in pictures else stem
            found.setdefault(stem, Sample()).beside[ending] = member
    _pair_control_folders(found)
    return list(found.values())


def is_captioned(view: View) -> bool:
    """Return whether the stems are captioned images: most have a caption, or some do and there is no class folder."""
    if _has_only_pictures(view):
        return False
    samples = [sample for sample in samples_of(view) if sample.images]
    captioned = sum(sample.text is not None for sample in samples)
    if captioned:
        return captioned >= _MAJORITY * len(samples) or len(_folders(view)) < 2  # noqa: PLR2004  one folder is no class
    if any(CLASS_ENDING in sample.beside for sample in samples):
        return False
    tables = [sample for sample in samples if "json" in sample.beside]
    return len(tables) > _MAJORITY * len(samples) and _json_caption(view, tables[0].beside["json"]) is not None


def few_captions(view: View) -> list[str]:
    """Paths of the caption files in what is no captioned set."""
    if _has_only_pictures(view):
        return []
    return [sample.text.path for sample in samples_of(view) if sample.images and sample.text]


@dataclass(frozen=True)
class Labels:
    """Classes that `.cls` files name."""

    by_image: dict[str, str | RefusedError]
    """Path of an image -> its class, or why its file says none."""
    files: frozenset[str]
    """Paths of the files that were read."""


def class_labels(view: View) -> Labels | None:
    """The classes by `.cls` files; None where most images have no such file."""
    if _has_only_pictures(view):
        return None
    samples = [sample for sample in samples_of(view) if sample.images]
    labelled = [sample for sample in samples if CLASS_ENDING in sample.beside]
    if not labelled or len(labelled) < _MAJORITY * len(samples):
        return None
    labels: dict[str, str | RefusedError] = {}
    for sample in labelled:
        file = sample.beside[CLASS_ENDING]
        try:
            name = clean_name(decoded(view.archive.read(file)))
            found: str | RefusedError = name or RefusedError("missing_label", f"{file.path} is empty")
        except RefusedError as reason:
            found = RefusedError(reason.code, f"{file.path}: {reason}")
        labels |= {image.path: found for image in sample.images}
    return Labels(labels, frozenset(sample.beside[CLASS_ENDING].path for sample in labelled))


def caption_of(view: View, sample: Sample) -> tuple[Member, str]:
    """(the file that holds the caption, the caption).

    Raises:
        RefusedError: `missing_caption`, `caption_too_long`, or why the file cannot be read.
    """
    text = sample.text
    if text is None:
        table = sample.beside.get("json")
        found = None if table is None else _json_caption(view, table)
        if table is None or found is None:
            endings = " or ".join(f".{ending}" for ending in TEXT_ENDINGS)
            raise RefusedError("missing_caption", f"the image has no caption: no {endings} file has its stem")
        return table, caption(found, "the image")
    try:
        return text, caption(decoded(view.archive.read(text)), "the image")
    except RefusedError as reason:
        code = "missing_caption" if reason.code == "empty_file" else reason.code
        raise RefusedError(code, f"{text.path}: {reason}") from reason


def _json_caption(view: View, member: Member) -> object:
    try:
        row = json.loads(decoded(view.archive.read(member)))
    except (RefusedError, ValueError, RecursionError):
        return None
    return next((row[name] for name in find(row, CAPTION_COLUMNS)), None) if isinstance(row, dict) else None


def _folders(view: View) -> set[str]:
    root = class_root(view.picture_names())
    return {name.removeprefix(root).split("/")[0] for name in view.picture_names() if "/" in name.removeprefix(root)}


def _pair_control_folders(found: dict[str, Sample]) -> None:
    """`conditioning/0.png` is the control image of the one `0.png` that lies in a folder beside it."""
    homes: dict[str, list[str]] = {}
    for stem, sample in found.items():
        if sample.images and not _in_control_folder(stem):
            homes.setdefault(_across(stem), []).append(stem)
    for stem in [stem for stem, sample in found.items() if _in_control_folder(stem) and _is_lone(sample)]:
        owners = homes.get(_across(stem), [])
        if len(owners) == 1 and found[owners[0]].text:
            found[owners[0]].controls += found.pop(stem).images


def _is_lone(sample: Sample) -> bool:
    return bool(sample.images) and not sample.beside and not sample.controls


def _in_control_folder(stem: str) -> bool:
    return stem.rpartition("/")[0].rpartition("/")[2].casefold() in CONTROL_FOLDERS


def _across(stem: str) -> str:
    """The stem without its own folder: equal for files of one name in neighbouring folders."""
    folder, _, name = stem.rpartition("/")
    return f"{folder.rpartition('/')[0]}/{name}"


def paired_folders(names: Callable[[], Iterator[str]]) -> tuple[str, str] | None:
    """Find two folders that hold the same names, one named as control images are: no classes.

    Args:
        names: `folder/file` of each picture.
    """
    folders = sorted({name.partition("/")[0] for name in names()})
    controls = {folder for folder in folders if folder.casefold() in CONTROL_FOLDERS | {"source"}}
    if len(folders) != 2 or not controls:  # noqa: PLR2004  controls and what they are of
        return None
    inside: dict[str, set[str]] = {folder: set() for folder in folders}
    for name in names():
        folder, _, file = name.partition("/")
        inside[folder].add(file.rpartition(".")[0])
    first, second = folders
    return (first, second) if inside[first] == inside[second] else None
