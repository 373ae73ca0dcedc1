"""YAML from peers: the values of settings, and nothing that stands for more than it says."""

from __future__ import annotations

from typing import Any

from scanside.texts import shortened

__all__ = ["read_value"]

_LONGEST = 10_000
_DEEPEST = 16


def read_value(text: str) -> Any:
    """The value that a text in YAML means: ``4`` a number, ``[a, b]`` a list.

    Args:
        text: a setting's value, as somebody sent it.

    Raises:
        ValueError: it is not YAML, too long or too deeply nested; or it has an alias (``*name``), by which a few
            lines can stand for gigabytes.
    """
    import yaml

    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters; the value of a setting has at most {_LONGEST}")

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it has an alias ('*name'): write the value out")
            self.depth += 1
            if self.depth > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    try:
        return yaml.load(text, Loader)  # noqa: S506 — it is a safe one
    except (
        Exception
    ) as error:  # besides its own errors, what Python's int, float and date make of odd numbers
        raise ValueError(shortened(" ".join(str(error).split()), 300)) from error
