"""Log lines: JSON for machines, plain on a terminal, and nothing in them of what clients sent.

`about(request_id=…)` adds fields to all that is logged inside it, `note(batch_id=…)` to what
follows there. What a database complains of may quote what it was to store, so of its errors only
the kind and the SQLSTATE are written.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import psycopg
from django.db import Error as DjangoDatabaseError
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from privacy.scrubbing import scrub_text

_fields: ContextVar[Mapping[str, str]] = ContextVar("fields", default={})  # noqa: B039 never changed


@contextlib.contextmanager
def about(**fields: str) -> Iterator[None]:
    """Add fields to every line that is logged in here."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def note(**fields: str) -> None:
    """Add fields to what follows in the innermost `about`; outside of any nothing follows."""
    if found := _fields.get():
        _fields.set({**found, **fields})


def kind(error: BaseException) -> str:
    """What an error is, without a word of what it is about: `UniqueViolation 23505`."""
    cause = error.__cause__ if isinstance(error, DjangoDatabaseError) else None
    found = cause if isinstance(cause, psycopg.Error) else error
    return f"{type(found).__name__} {getattr(found, 'sqlstate', None) or ''}".rstrip()


class Fields(logging.Filter):
    """Gives a record the fields of the request or task it was logged in, and takes values away."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.fields = _fields.get()
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        # Celery's line for a failed task repeats the exception's text.
        if error is not None and isinstance(record.args, Mapping) and "exc" in record.args:
            record.args = {**record.args, "exc": kind(error), "traceback": ""}
        return True


class _Discreet(logging.Formatter):
    """Writes tracebacks without the texts of a database's complaints."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 the library's name
        text = super().formatException(ei)
        for error in _chain(ei[1]):
            if isinstance(error, psycopg.Error | DjangoDatabaseError) and str(error):
                text = text.replace(str(error), kind(error))
        return scrub_text(text)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Plain(_Discreet):
    """A line for people; its fields stand at the end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the library's name
        fields: Mapping[str, str] = getattr(record, "fields", {})
        told = "".join(f" {name}={value}" for name, value in fields.items())
        return super().formatMessage(record) + told


class Json(_Discreet, JsonFormatter):
    """One JSON object a line: time (UTC), level, logger, message, fields, exception."""

    def __init__(self) -> None:
        JsonFormatter.__init__(
            self,
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            timestamp="time",
            # Django's lines have the request, which writes itself with its query string.
            reserved_attrs=[*RESERVED_ATTRS, "request"],
        )

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        super().add_fields(log_data, record, message_dict)
        found = {"time": log_data.pop("time"), **log_data, **log_data.pop("fields", {})}
        found.pop("fields", None)
        log_data.clear()
        log_data.update(found)
