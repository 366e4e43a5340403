"""JSON and JSON lines: one page of `path: value` lines; a list of flat objects is a table."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_markup
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable, ParsedDocument
from app.ingestion.parsers.text import read_text
from app.ingestion.parsers.text_builder import TextBuilder

_MAX_DEPTH = 100
_SEPARATOR = " | "
_NO_JSON_LINES = "Some lines are not valid JSON and were taken as they stand."

Json = Any


@contextmanager
def open_json(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    """Open one JSON value, or several, which are JSON lines whatever the file is called."""
    text = read_text(path, clean=clean_markup)
    try:
        value = _load(text)
    except ValueError:
        page = _read_lines(text)
    else:
        page = _read_value(value)
    yield ParsedDocument(title=None, page_count=1, pages=lambda: iter([page]))


@contextmanager
def open_json_lines(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    page = _read_lines(read_text(path, clean=clean_markup))
    yield ParsedDocument(title=None, page_count=1, pages=lambda: iter([page]))


def _load(text: str) -> Json:
    """Parse JSON, with numbers as they are written. Raises ValueError, or DocumentUnreadable."""
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except RecursionError as error:
        raise _too_deep() from error


def _read_value(value: Json) -> Page:
    builder = TextBuilder()
    for path, leaf in _iter_leaves(value, is_leaf=lambda v: _is_plain(v) or _is_table(v)):
        if _is_table(leaf):
            for index, record in enumerate(leaf):
                place = f"{path}[{index}]{_SEPARATOR}" if path else ""
                if row := _show_record(record):
                    builder.add_line(place + row)
        elif "\n" in (shown := _show(leaf)):
            builder.add_paragraph(_name(path, shown))
        elif shown:
            builder.add_line(_name(path, shown))
    return builder.build(1)


def _read_lines(text: str) -> Page:
    """Read a record from each line. Raises DocumentUnreadable (corrupt) if none is JSON."""
    builder = TextBuilder()
    records = failures = 0
    for line in filter(str.strip, text.split("\n")):
        try:
            record = _load(line)
        except ValueError:
            failures += 1
            builder.add_line(line)
        else:
            records += 1
            builder.add_line(_show_record(record))
    if failures and not records:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail="The file is not valid JSON.")
    return builder.build(1, warnings=(_NO_JSON_LINES,) if failures else ())


def _show_record(record: Json) -> str:
    """Return a value on one line: what a table calls a row."""
    leaves = ((path, _show(leaf)) for path, leaf in _iter_leaves(record, is_leaf=_is_plain))
    return _SEPARATOR.join(_name(path, shown) for path, shown in leaves if shown)


def _iter_leaves(value: Json, *, is_leaf: Callable[[Json], bool]) -> Iterator[tuple[str, Json]]:
    """Yield the leaves of a value in their order, each with its path: `invoice.items[0].price`.

    Raises DocumentUnreadable (corrupt) where it is nested deeper than anyone would read.
    """
    open_levels = [iter([("", value)])]
    while open_levels:
        path, member = next(open_levels[-1], (None, None))
        if path is None:
            open_levels.pop()
        elif is_leaf(member):
            yield path, member
        elif len(open_levels) > _MAX_DEPTH:
            raise _too_deep()
        else:
            open_levels.append(_iter_members(path, member))


def _iter_members(path: str, container: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(container, dict):
        prefix = f"{path}." if path else ""
        return ((f"{prefix}{key}", value) for key, value in container.items())
    return ((f"{path}[{index}]", value) for index, value in enumerate(container))


def _is_plain(value: Json) -> bool:
    """Say whether a value is a string, a number or the like, or a list of nothing else."""
    if isinstance(value, list):
        return not any(isinstance(item, dict | list) for item in value)
    return not isinstance(value, dict)


def _is_table(value: Json) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and all(map(_is_plain, item.values())) for item in value
    )


def _show(value: Json) -> str:
    """Return a plain value as text; nothing for null."""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_show, value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()


def _name(path: str, shown: str) -> str:
    return f"{path}: {shown}" if path else shown


def _too_deep() -> DocumentUnreadable:
    detail = "The JSON is nested too deeply."
    return DocumentUnreadable(IngestErrorCode.CORRUPT, detail=detail)
