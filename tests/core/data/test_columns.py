"""What is kept of each file of a data set: the same as in lists and dictionaries, in few bytes."""

from __future__ import annotations

import random
import tracemalloc
import zipfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from difftune_core.data.archive import open_archive
from difftune_core.data.columns import Digests, DigestsByName, Numbered, NumbersByName, Texts, distinct, grouped
from difftune_core.data.items import LabelledImage
from difftune_core.data.labelled import LabelledImages
from difftune_core.data.members import Entry, Members

NAMES = st.lists(st.text(st.characters(codec=None)), unique=True, max_size=30)
FILES = 1_100  # more than a directory is read of at once
MOST_BYTES = 90
"""Kept of a file whose path has some 20 characters; lists of objects keep ten times as much."""


@given(NAMES)
def test_strings_come_back_as_they_were(names: list[str]) -> None:
    texts, numbered = Texts(), Numbered()
    for name in names:
        texts.append(name)
        numbered.append(name)
    assert list(texts) == [texts[place] for place in range(len(texts))] == names
    assert [numbered[place] for place in range(len(names))] == names
    assert texts[1:9:2] == names[1:9:2]


@given(NAMES)
def test_names_find_their_numbers_and_digests(names: list[str]) -> None:
    numbers, digests = NumbersByName(names[1:]), DigestsByName()
    for name in names[1:]:
        digests.add(name, name.encode("utf-8", "surrogatepass")[:32].ljust(32))
    assert [numbers.get(name) for name in names] == [None, *range(len(names) - 1)][: len(names)]
    for name in names[1:]:
        assert digests.get(name, b"") == name.encode("utf-8", "surrogatepass")[:32].ljust(32)
    assert all(digests.get(name, b"none") == b"none" for name in names[:1])


@given(st.lists(st.binary(max_size=2)))
def test_equal_values_have_one_number(values: list[bytes]) -> None:
    groups = grouped(values).tolist()
    assert all(
        (a == b) == (x == y) for a, x in zip(values, groups, strict=True) for b, y in zip(values, groups, strict=True)
    )
    assert distinct(values) == len(set(values))


def test_images_come_by_their_paths() -> None:
    images = [LabelledImage(f"{n % 3}/{n}.png", str(n % 3), 2**33 + n, n, 7, "PNG", f"{n:064x}") for n in range(40)]
    found = LabelledImages()
    for image in random.Random(0).sample(images, len(images)):
        found.append(image)
    assert list(found.by_path()) == sorted(images, key=lambda image: image.path)
    assert sorted(found.classes) == ["0", "1", "2"]
    assert Digests(b"aabbcc", 2)[-1] == b"cc"


def test_a_large_archive_is_listed_in_the_order_of_its_data(tmp_path: Path) -> None:
    names = random.Random(0).sample([f"class-{n % 7}/{n:07}.png" for n in range(FILES)], FILES)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        for name in names:
            writer.writestr(name, name)
        writer.filelist.sort(key=lambda info: info.filename)  # the directory's order is another one
    with open_archive(tmp_path / "a.zip") as archive:
        assert [member.path for member in archive] == names
        for place in (0, 999, 1000, FILES - 1):
            assert archive.read(archive.members[place]) == names[place].encode()


def test_few_bytes_are_kept_of_a_file() -> None:
    tracemalloc.start()
    try:
        members = Members()
        for number in range(600):
            members.add(f"class-{number % 7}/{number:07}.png", Entry("", 2**20, 2**20, number))
        members.close()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < MOST_BYTES * len(members)
