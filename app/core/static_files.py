"""Files that stay as they are while the process runs: known by name, read and compressed once."""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

# Not `mimetypes`: what that says depends on the machine.
_MEDIA_TYPES = {
    ".bcmap": "application/octet-stream",
    ".css": "text/css; charset=utf-8",
    ".ftl": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".icc": "application/vnd.iccprofile",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".otf": "font/otf",
    ".pfb": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_UNKNOWN_TYPE = "application/octet-stream"
# What does not shrink below this share of its size is sent as it is.
_WORTH_IT = 0.9


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file in memory. `gzipped` is None where compression gains little."""

    media_type: str
    body: bytes
    gzipped: bytes | None
    etag: str


class StaticFolder:
    """The files of a folder by relative name, as it was when this was made; {} where it is not.

    Names are looked up, never joined to a path. Each file is read at its first use and then kept;
    after a new build the process must be started again.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        self._files: dict[str, StaticFile] = {}

    async def find(self, name: str) -> StaticFile | None:
        file = self._files.get(name)
        if file is None and (path := self._paths.get(name)):
            try:
                file = self._files[name] = await asyncio.to_thread(_read, path)
            except FileNotFoundError:
                return None
        return file


def respond_with(request: Request, file: StaticFile, headers: Mapping[str, str]) -> Response:
    """Answer GET or HEAD with a file: 304 to who has it, gzip to who takes that."""
    headers = {**headers, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if names_etag(request.headers.get("if-none-match"), file.etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    body = file.body
    if file.gzipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
        body = file.gzipped
        headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(body))
    headers["Content-Type"] = file.media_type
    return Response(b"" if request.method == "HEAD" else body, headers=headers)


def names_etag(if_none_match: str | None, etag: str) -> bool:
    """Say whether the header names a weak ETag, or any at all (RFC 9110, section 13.1.2)."""
    named = {name.strip() for name in (if_none_match or "").split(",")}
    return not named.isdisjoint({"*", etag, etag.removeprefix("W/")})


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    gzipped = gzip.compress(body, compresslevel=9, mtime=0)
    return StaticFile(
        media_type=_MEDIA_TYPES.get(path.suffix.lower(), _UNKNOWN_TYPE),
        body=body,
        gzipped=gzipped if len(gzipped) < _WORTH_IT * len(body) else None,
        # Weak, because it is that of the file and of its compressed form.
        etag=f'W/"{hashlib.sha256(body).hexdigest()[:32]}"',
    )


def _takes_gzip(accept_encoding: str) -> bool:
    """Say whether `gzip`, else `*`, is named, and not with a quality of zero."""
    qualities = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameters = item.partition(";")
        qualities[coding.strip()] = parameters.strip().removeprefix("q=").strip() or "1"
    quality = qualities.get("gzip", qualities.get("*", "0"))
    return quality.strip("0.") != ""
