"""How a lack of memory is told from other failures: Python, numpy, torch and CUDA say it in words of their own."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from difftune_core.hooks import OutcomeEvent

CODE = "out_of_memory"
_SAID = (
    "can't allocate memory",  # torch on the CPU
    "not enough memory",  # the same on Windows, and where an allocator of its own is asked
    "cannot allocate memory",  # the system: a mapping, a library, a process
    "out of memory",  # CUDA
    "unable to allocate",  # numpy
    "bad_alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "(os error 12)",  # safetensors
)
_TO_DO = {
    "train": (
        "Take a smaller batch_size, resources.micro_batch or resources.activation_checkpointing, an adapter in place "
        "of full tuning, or a machine with more memory."
    ),
    "validate": "Take smaller images, or a machine with more memory.",
}
_OTHERWISE = "Take a smaller base model, fewer images, or a machine with more memory."


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a lack of memory, or was raised because of one."""
    return any(_says_so(link) for link in _chain(error))


def out_of_memory(error: BaseException, command: str) -> OutcomeEvent:
    """The outcome of `command`, which ended by such an error: on which device, and what can be done."""
    where = "GPU" if any("cuda" in str(link).lower() for link in _chain(error)) else "machine"
    message = f"The {where} has not enough memory. {_TO_DO.get(command, _OTHERWISE)}"
    return OutcomeEvent(code=CODE, message=message, param="batch_size" if command == "train" else None)


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch need not be there
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    told = isinstance(error, RuntimeError | OSError | ImportError) or type(error).__name__ == "SafetensorError"
    return told and any(words in str(error).lower() for words in _SAID)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
