from __future__ import annotations

import time

from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from api.errors import InvalidInputError, TooLargeError
from api.storage import ObjectStore, StoredFile
from api.subjects import repository
from api.subjects.kinds import refuse_used
from api.subjects.states import Status
from api.vision_files.kind import VISION_FILES, VisionFile

PURPOSE = "vision"
MAX_BYTES = 50 * 2**20
_SIGNATURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF",
    "image/bmp": b"BM",
}


def keep(store: ObjectStore, received: str, file_id: str, filename: str, num_bytes: int) -> StoredFile:
    """Store a received object as an image of its own, in the received one's place.

    Raises:
        TooLargeError: it is larger than an image may be.
        InvalidInputError: `not_an_image`, it does not begin as one.
    """
    if num_bytes > MAX_BYTES:
        message = f"An image may have {MAX_BYTES} bytes, not {num_bytes}."
        raise TooLargeError("too_large", message, max_bytes=MAX_BYTES)
    content = b"".join(store.read(received))
    kinds = [kind for kind, begin in _SIGNATURES.items() if content.startswith(begin)]
    if not kinds:
        message = f"{filename!r} is no PNG, JPEG, WebP or BMP image."
        raise InvalidInputError("not_an_image", message, param="file")
    stored = store.put_stream(f"{VISION_FILES.folder}/{file_id}/image", [content])
    assert stored.sha256 is not None, "a stream is hashed"
    return StoredFile(stored.key, filename, stored.bytes, stored.sha256, kinds[0])


def create(session: Session, tenant_id: str, file_id: str, stored: StoredFile) -> VisionFile:
    """A new image."""
    moment = time.time()
    row = VisionFile(
        id=file_id,
        tenant_id=tenant_id,
        status=Status.SUCCEEDED,
        config={
            "key": stored.key,
            "filename": stored.filename,
            "bytes": stored.bytes,
            "sha256": stored.sha256,
            "content_type": stored.content_type,
        },
        needs=[],
        created_at=moment,
        finished_at=moment,
    )
    session.add(row)
    session.flush()
    return row


def named(session: Session, tenant_id: str, file_id: str, *, param: str) -> VisionFile:
    """The tenant's image that a request names, locked so that it is not deleted before it is seen to be needed.

    Raises:
        InvalidInputError: `file_not_found`, naming `param`.
    """
    found = repository.find(session, VisionFile, tenant_id, file_id, lock=True)
    if found is None:
        message = f"There is no file {file_id!r} with the purpose {PURPOSE!r}."
        raise InvalidInputError("file_not_found", message, param=param)
    return found


def delete(session: Session, tenant_id: str, file_id: str) -> list[str]:
    """Delete an image; keys to delete after the commit.

    Raises:
        NotFoundError: there is none.
        NotYetError: images that are to be drawn need it.
    """
    row = repository.lock_seen(session, VisionFile, tenant_id, file_id)
    refuse_used(session, tenant_id, [file_id], "file_in_use", f"The file {file_id} is")
    session.execute(delete_rows(VisionFile).where(VisionFile.id == row.id))
    return [row.stored.key]
