"""A store that speaks S3, in this process and in memory: every S3 store's answers, where no server need be installed.

It knows what our client asks and no more. Lists come in pages of two; links are checked as AWS checks them (Signature
Version 4), the signatures of other requests are not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import reduce
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from pydantic import SecretStr

_PAGE = 2
_SECRET = "small-secret"
Tree = dict[str, Any] | list[tuple[str, Any]] | str


@dataclass
class _Object:
    data: bytes
    headers: dict[str, str]
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


@dataclass
class _Upload:
    key: str
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))


class _Refused(Exception):  # noqa: N818  # an answer, no error of ours
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class SmallS3:
    """The server: one bucket, many stores by prefix."""

    def __init__(self, bucket: str) -> None:
        self.objects: dict[str, dict[str, _Object]] = {bucket: {}}
        self.uploads: dict[str, _Upload] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.settings = {
            "s3_endpoint_url": f"http://127.0.0.1:{self._server.server_port}",
            "s3_region": "small-1",
            "s3_access_key_id": SecretStr("small"),
            "s3_secret_access_key": SecretStr(_SECRET),
        }
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        """Begin to answer; nothing where it does."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    store: ClassVar[SmallS3]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:  # type: ignore[override]  # nobody reads it
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # the names of the base class

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        bucket, _, self.key = unquote(url.path).lstrip("/").partition("/")
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            self._check_signature(url.path)
            with self.store.lock:
                self.objects = self._bucket(bucket)
                getattr(self, f"_{self.command.lower()}_{self._what}")()
        except _Refused as refused:
            self._send(refused.status, _xml("Error", {"Code": refused.code, "Message": refused.code}))

    def _bucket(self, name: str) -> dict[str, _Object]:
        if name not in self.store.objects:
            raise _Refused(404, "NoSuchBucket")
        return self.store.objects[name]

    @property
    def _what(self) -> str:
        if "uploadId" in self.query or "uploads" in self.query:
            return "upload"
        return "object" if self.key else "bucket"

    def _head_bucket(self) -> None:
        self._send(200)

    def _get_bucket(self) -> None:
        prefix, after = self.query.get("prefix", ""), self.query.get("continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page: list[tuple[str, Any]] = [("EncodingType", "url"), ("IsTruncated", str(len(keys) > _PAGE).lower())]
        page += [("NextContinuationToken", keys[_PAGE - 1])] if len(keys) > _PAGE else []
        for key in keys[:_PAGE]:
            found = self.objects[key]
            about = {"Key": quote(key), "LastModified": found.modified.isoformat(), "ETag": found.etag}
            page.append(("Contents", {**about, "Size": str(len(found.data))}))
        self._send(200, _xml("ListBucketResult", page))

    def _get_upload(self) -> None:
        prefix = self.query.get("prefix", "")
        found = [(id_, upload) for id_, upload in self.store.uploads.items() if upload.key.startswith(prefix)]
        told = [{"Key": u.key, "UploadId": id_, "Initiated": u.began.isoformat()} for id_, u in found]
        listed: list[tuple[str, Any]] = [("IsTruncated", "false"), *(("Upload", upload) for upload in told)]
        self._send(200, _xml("ListMultipartUploadsResult", listed))

    def _put_object(self) -> None:
        if self.headers.get("if-none-match") == "*" and self.key in self.objects:
            raise _Refused(412, "PreconditionFailed")
        self._check_body()
        self.objects[self.key] = _Object(self.body, self._kept_headers())
        self._send(200, headers={"etag": self.objects[self.key].etag})

    def _get_object(self) -> None:
        found = self.objects.get(self.key)
        if found is None:
            raise _Refused(404, "NoSuchKey")
        if self.headers.get("if-match", found.etag) != found.etag:
            raise _Refused(412, "PreconditionFailed")
        headers = {**found.headers, "etag": found.etag, "last-modified": format_datetime(found.modified, usegmt=True)}
        for name in ("content-type", "content-disposition"):
            headers |= {name: self.query[f"response-{name}"]} if f"response-{name}" in self.query else {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if wanted is None:
            self._send(200, found.data, headers)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(found.data))
        if start >= len(found.data):
            raise _Refused(416, "InvalidRange")
        self._send(206, found.data[start : end + 1], headers)

    _head_object = _get_object

    def _delete_object(self) -> None:
        self.objects.pop(self.key, None)
        self._send(204)

    def _post_upload(self) -> None:
        if "uploads" in self.query:
            id_ = secrets.token_hex(8)
            self.store.uploads[id_] = _Upload(self.key, self._kept_headers())
            self._send(200, _xml("InitiateMultipartUploadResult", {"Key": self.key, "UploadId": id_}))
            return
        upload = self.store.uploads.pop(self.query["uploadId"])
        data = b"".join(part for _, part in sorted(upload.parts.items()))
        self.objects[upload.key] = _Object(data, upload.headers)
        self._send(200, _xml("CompleteMultipartUploadResult", {"Key": upload.key}))

    def _put_upload(self) -> None:
        self._check_body()
        self.store.uploads[self.query["uploadId"]].parts[int(self.query["partNumber"])] = self.body
        self._send(200, headers={"etag": '"part"'})

    def _delete_upload(self) -> None:
        if self.store.uploads.pop(self.query["uploadId"], None) is None:
            raise _Refused(404, "NoSuchUpload")
        self._send(204)

    def _kept_headers(self) -> dict[str, str]:
        return {n.lower(): v for n, v in self.headers.items() if n.lower().startswith(("x-amz-meta-", "content-type"))}

    def _check_body(self) -> None:
        stated = self.headers.get("x-amz-content-sha256", "")
        if re.fullmatch("[0-9a-f]{64}", stated) and stated != hashlib.sha256(self.body).hexdigest():
            raise _Refused(400, "XAmzContentSHA256Mismatch")

    def _check_signature(self, path: str) -> None:
        """Of a link; others' need only be there."""
        query = dict(self.query)
        if (given := query.pop("X-Amz-Signature", None)) is None:
            if "authorization" not in self.headers:
                raise _Refused(403, "AccessDenied")
            return
        names, scope = query["X-Amz-SignedHeaders"], query["X-Amz-Credential"].split("/")[1:]
        canonical = "&".join(sorted(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in query.items()))
        signed = "".join(f"{name}:{self.headers.get(name, '')}\n" for name in names.split(";"))
        request = f"{self.command}\n{path}\n{canonical}\n{signed}\n{names}\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], "/".join(scope), digest])
        key = reduce(_hmac, scope, f"AWS4{_SECRET}".encode())
        age = datetime.now(UTC) - datetime.strptime(query["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
        if given != _hmac(key, text).hex() or age.total_seconds() > int(query["X-Amz-Expires"]):
            raise _Refused(403, "AccessDenied")

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        with suppress(ConnectionError):  # who asked may have gone
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _xml(name: str, content: Tree) -> bytes:
    return f"<{name}>{_inside(content)}</{name}>".encode()


def _inside(content: Tree) -> str:
    if isinstance(content, str):
        return escape(content)
    members = content.items() if isinstance(content, dict) else content
    return "".join(f"<{name}>{_inside(inner)}</{name}>" for name, inner in members)
