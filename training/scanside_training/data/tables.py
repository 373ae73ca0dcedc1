"""Tables as people and their spreadsheets write them."""

from __future__ import annotations

import csv
from pathlib import Path

from scanside.errors import ConfigError

__all__ = ["table_rows"]


def table_rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its columns' names in small letters.

    It may have a byte order mark, ``;`` or tabs, or be in the code page of Western Windows.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        data = table.read_bytes()
    except OSError as error:
        raise ConfigError(f"{table} cannot be read: {error.strerror}") from error
    text = _decoded(data, table)
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator, skipinitialspace=True)
    return [
        {(name or "").strip().lower(): value if isinstance(value, str) else "" for name, value in row.items()}
        for row in reader
    ]


def _decoded(data: bytes, table: Path) -> str:
    of_spreadsheets = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # their "Unicode text"
    encodings: tuple[str, ...] = ("utf-16",) if of_spreadsheets else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ConfigError(f"{table} is text in no encoding that is known here: save it as CSV in UTF-8")
