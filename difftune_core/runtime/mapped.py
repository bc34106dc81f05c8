"""Tensors that stay in their file: read through a mapping, page by page as they are used.

A page that was read counts as this process's memory until the system wants it back; who reads a large set at random
gives its pages back (`Mapped.let_go`), so that memory does not grow with the set. A mapping keeps no file open.
"""

from __future__ import annotations

import ctypes
import json
import mmap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I64": torch.int64, "F16": torch.float16, "F32": torch.float32}
_WILL_NEED, _DONT_NEED = 3, 4  # of madvise: begin to read these pages; read them again from the file


class Mapped:
    """The tensors of a safetensors file of the dtypes that caches hold; nobody writes to them."""

    def __init__(self, path: Path) -> None:
        """Map the file, which must be whole.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no such file, or cut.
        """
        self.path, size = path, path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise ValueError(f"{path.name} is cut, or no safetensors file")
            header: dict[str, Any] = json.loads(file.read(length))
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        if 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0) != size:
            raise ValueError(f"{path.name} has {size} bytes, other than its header says")
        storage: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        self._storage: torch.UntypedStorage = storage
        self.tensors = {name: self._tensor(entry, 8 + length) for name, entry in header.items()}

    def let_go(self) -> None:
        """Give back the memory of the pages that were read; they are read again when they are used."""
        start = self._storage.data_ptr()
        if advise := _madvise():
            advise(ctypes.c_void_p(start), ctypes.c_size_t(self._storage.nbytes()), _DONT_NEED)

    def will_need(self, name: str, row: int) -> None:
        """Have the system read a row of a tensor into its cache, which nobody waits for."""
        tensor = self.tensors[name][row]
        start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        if advise := _madvise():
            advise(ctypes.c_void_p(start), ctypes.c_size_t(tensor.data_ptr() + tensor.nbytes - start), _WILL_NEED)

    def _tensor(self, entry: dict[str, Any], offset: int) -> Tensor:
        dtype = _DTYPES[entry["dtype"]]
        place = (offset + entry["data_offsets"][0]) // dtype.itemsize
        shape = tuple(entry["shape"])
        return torch.empty(0, dtype=dtype).set_(self._storage, place, shape, _strides(shape))


@cache
def _madvise() -> Callable[..., int] | None:
    """The system's call; None where there is none, or where it means something else."""
    if not hasattr(mmap, "MADV_DONTNEED") or mmap.MADV_DONTNEED != _DONT_NEED:
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), "madvise", None)
    return found


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))
