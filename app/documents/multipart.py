"""Reads a multipart body: the one file goes to disk as it arrives, the options are kept."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import InvalidRequest, UnprocessableRequest, UnsupportedMediaType
from app.core.text import show_name
from app.documents.filenames import clean_filename
from app.documents.options import OPTION_NAMES, REPEATABLE_OPTIONS
from app.documents.receiving import too_large

# What the boundaries, headers and other fields around one file may take.
ENVELOPE_BYTES = 64 * 1024
# Of all fields with an option's name.
_MAX_OPTION_BYTES = 16 * 1024
_MAX_REPEATED = 64


@dataclass(slots=True)
class FilePart:
    """The one file of a multipart body, written to `target` as it arrives."""

    target: BinaryIO
    limit_bytes: int
    filename: str | None = None
    size_bytes: int = 0
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > self.limit_bytes:
            raise too_large(self.limit_bytes)
        self.sha256.update(data)
        self.target.write(data)


class _FormParser:
    """Feeds the part named `file` into a FilePart, and gathers the options.

    Ignores the rest, unless it `refuses_others`.
    """

    def __init__(
        self, boundary: bytes, file: FilePart, names: frozenset[str], *, refuses_others: bool
    ) -> None:
        self._file = file
        self._names = names
        self._refuses_others = refuses_others
        self._options: dict[str, list[bytearray]] = {}
        self._in_file = False
        self._option: str | None = None
        self._has_ended = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self.parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    @property
    def is_complete(self) -> bool:
        return self._has_ended

    def decode_options(self) -> dict[str, list[str]]:
        """Raises UnprocessableRequest for what is no UTF-8."""
        return {
            name: [_decode(name, value) for value in values]
            for name, values in self._options.items()
        }

    def _on_part_begin(self) -> None:
        self._disposition = self._header_name = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        self._in_file = name == "file"
        self._option = name if name in self._names else None
        if self._refuses_others and self._option is None and not self._in_file:
            shown = show_name(name)
            raise InvalidRequest(
                f"{f'`{shown}`' if shown else 'A field'} is not supported here: leave it out.",
                code="unsupported_parameter",
                param=shown or None,
            )
        if self._in_file:
            self._begin_file(options.get(b"filename"))
        if self._option is not None:
            values = self._options.setdefault(self._option, [])
            if values and name not in REPEATABLE_OPTIONS:
                raise UnprocessableRequest(f"Send `{name}` once.", param=name)
            if len(values) == _MAX_REPEATED:
                raise UnprocessableRequest(f"Send `{name}` fewer times.", param=name)
            values.append(bytearray())

    def _begin_file(self, filename: bytes | None) -> None:
        if self._file.filename is not None:
            raise UnprocessableRequest("Send one file at a time.", param="file")
        if filename is None:
            raise UnprocessableRequest("The field `file` must be a file.", param="file")
        self._file.filename = clean_filename(filename.decode("utf-8", "replace"))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file.write(data[start:end])
        elif self._option is not None:
            values = self._options[self._option]
            values[-1] += data[start:end]
            if sum(map(len, values)) > _MAX_OPTION_BYTES:
                raise UnprocessableRequest(
                    f"The field `{self._option}` is too long.", param=self._option
                )

    def _on_end(self) -> None:
        self._has_ended = True


async def read_form(
    body: AsyncIterator[bytes],
    boundary: bytes,
    file: FilePart,
    *,
    further: frozenset[str] = frozenset(),
    refuses_others: bool = False,
) -> dict[str, list[str]]:
    """Read a body to its end: the file into `file`, and return the options as they were sent.

    Each option has a text for each of its fields; so has a `further` field, by its name.
    A field of any other name is ignored, or InvalidRequest (`unsupported_parameter`).

    Raises InvalidRequest, UnprocessableRequest, PayloadTooLarge, or what `body` raises.
    """
    total_bytes = 0
    try:
        names = OPTION_NAMES | further
        form = _FormParser(boundary, file, names, refuses_others=refuses_others)
        async for piece in body:
            total_bytes += len(piece)
            if total_bytes > file.limit_bytes + ENVELOPE_BYTES:
                raise too_large(file.limit_bytes)
            form.parser.write(piece)
    except FormParserError as error:
        raise InvalidRequest("The multipart body is malformed.", param="file") from error
    if file.filename is None:
        raise UnprocessableRequest("The body has no file in the field `file`.", param="file")
    if not form.is_complete:
        raise InvalidRequest("The multipart body ended too early.", param="file")
    return form.decode_options()


def boundary_of(content_type: str) -> bytes:
    """Raises UnsupportedMediaType for what is no multipart form."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("Send the file as multipart/form-data, in the field `file`.")
    return boundary


def _decode(name: str, value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise UnprocessableRequest(f"The field `{name}` is no UTF-8.", param=name) from error
