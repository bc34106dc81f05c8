"""The cases: what should come of each input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from diffusers import DiTPipeline

from difftune_core.families.dit.export_card import pipeline_name
from tests.trials.seen import Seen, colour, shared_images, trained, validated

Judged = Callable[[Seen], bool]


@dataclass(frozen=True)
class Case:
    """`run` gets an empty folder and says whether the right thing came."""

    name: str
    run: Callable[[Path], bool]


def _taken(seen: Seen) -> bool:
    return seen.ok


def _refused(code: str, *words: str) -> Judged:
    return lambda seen: seen.is_whole and seen.codes("errors") == {code} and all(word in seen.said for word in words)


def _warned(*codes: str) -> Judged:
    return lambda seen: seen.ok and set(codes) <= seen.codes("warnings")


def _captions(*captions: str) -> Judged:
    return lambda seen: seen.ok and set(seen.captions) == set(captions)


def _classes(*names: str) -> Judged:
    return lambda seen: seen.ok and seen.report.get("class_names") == list(names)


def _both(*judged: Judged) -> Judged:
    return lambda seen: all(judge(seen) for judge in judged)


def _ignored(*paths: str) -> Judged:
    return lambda seen: set(paths) <= {finding["path"] for finding in seen.report["ignored_files"]}


VERDICTS: Final[dict[str, Judged]] = {
    "03_dots/dots.zip": _captions("a red cone"),
    "03_dots/dots_distinct.zip": _captions("a red cone"),
    "03_dots/dots_some.zip": _captions("a red cone", "a town"),
    "04_img2dataset/img2dataset.tar": _both(_captions("a red cone"), _ignored("000000.json", "000003.json")),
    "05_splits_merged/meta_splits.zip": _refused("splits_found", "training_file", "validation_file", "splits"),
    "06_caption_bytes/cap_bom.zip": _captions("a red cone"),
    "06_caption_bytes/cap_only_bom.zip": _refused("missing_caption"),
    "06_caption_bytes/cap_sjis.zip": _refused("missing_caption", "UTF-8"),
    "06_caption_bytes/cap_utf16le_nobom.zip": _refused("missing_caption", "NUL"),
    "07_metadata_columns/meta_csv.zip": _captions("a cone"),
    "07_metadata_columns/meta_gz_etc.zip": _both(_captions("x"), _ignored("README.md", "dataset_infos.json")),
    "07_metadata_columns/meta_json.zip": _captions(*(f"a red cone {number}" for number in range(4))),
    "07_metadata_columns/meta_prompt_key.zip": _captions(*(f"a red cone {number}" for number in range(4))),
    "07_metadata_columns/meta_two_captions.zip": _refused("duplicate_row", "has a row already"),
    "08_class_names/c_case_disjoint.zip": _both(_classes("Cat", "cat"), _warned("similar_class_names")),
    "08_class_names/c_case_overlap.zip": _both(_classes("Cat", "cat"), _warned("similar_class_names")),
    "08_class_names/c_sjis_names.zip": _classes("いぬ", "ねこ"),
    "08_class_names/commas.zip": _classes("cat, black", "cat, white", "dog"),
    "09_controls/k_black_controls.zip": _warned("constant_control", "one_control"),
    "09_controls/k_folders.zip": _taken,
    "09_controls/k_transparent_control.zip": _warned("transparent_control"),
    "12_stray_txt/c_stray_txt.zip": _both(_classes("a", "b"), _warned("few_captions"), _ignored("a/0.txt")),
    "13_layouts/c_backslash.zip": _classes("a", "b"),
    "13_layouts/fill50k.zip": _captions("a circle"),
}


def cases(folder: Path) -> Iterator[Case]:
    """Every case of the folder; an input that has no expectation here is a case that cannot be right."""
    yield from _of_split_cache(folder / "01_split_cache")
    for path in sorted(folder.glob("0[3-9]_*/*")) + sorted(folder.glob("1[23]_*/*")):
        name = path.relative_to(folder).as_posix()
        yield Case(name, _judging(path, VERDICTS.get(name, lambda _: False)))
    taken = folder / "05_splits_merged" / "meta_splits.zip"
    for split in ("train", "test"):
        yield Case(f"05_splits_merged/splits={split}", _judging(taken, _has_two, "--splits", split))
    yield Case(
        "08_class_names/export", lambda _: _survive_the_export("cat, black", "cat, white", " cat", "cat ", "dog")
    )
    for name, count in (("leak_half.zip", (10, 18)), ("leak_renamed.zip", (24, 24))):
        yield Case(f"10_leak/{name}", _telling(folder / "10_leak", name, count))
    yield Case("11_icc", lambda _: _is_one_colour(folder / "11_icc"))


def _has_two(seen: Seen) -> bool:
    return seen.ok and len(seen.items) == 2


def _judging(path: Path, judged: Judged, *options: str) -> Callable[[Path], bool]:
    return lambda out: judged(validated(path, out / "out", *options))


def _telling(folder: Path, name: str, wanted: tuple[int, int]) -> Callable[[Path], bool]:
    return lambda out: shared_images(folder, name, out / "out") == wanted


def _survive_the_export(*names: str) -> bool:
    """Whether the pipeline of an export keeps names apart, and `unquote` gives them back."""
    labels = DiTPipeline(None, None, None, id2label={n: pipeline_name(name) for n, name in enumerate(names)}).labels
    return {unquote(name): label for name, label in labels.items()} == {name: n for n, name in enumerate(names)}


def _is_one_colour(folder: Path) -> bool:
    grey = colour(folder / "L.png")
    return colour(folder / "RGB.png") == colour(folder / "RGBA.png") == [0, 0, 255] and len(set(grey)) == 1


def _of_split_cache(folder: Path) -> Iterator[Case]:
    """Weights of a config that nothing before them may change; all trainings run once, for the first case."""
    found: dict[str, str] = {}

    def run(out: Path) -> dict[str, str]:
        if not found:
            for name, config, data, cache in (
                ("seed6_own_cache", "S6.json", "colours.zip", "a"),
                ("seed0_shared", "S0.json", "colours.zip", "b"),
                ("seed6_after_seed0", "S6.json", "colours.zip", "b"),
                ("renamed_own_cache", "S0.json", "colours_renamed.zip", "c"),
                ("renamed_after_first", "S0.json", "colours_renamed.zip", "b"),
            ):
                found[name], _ = trained(folder / config, folder / data, out / name, "--cache", out.parent / cache)
        return found

    pairs = (("seed6_own_cache", "seed6_after_seed0"), ("renamed_own_cache", "renamed_after_first"))
    for own, after in pairs:
        yield Case(f"{folder.name}/{after}", lambda out, own=own, after=after: run(out)[own] == run(out)[after])
