"""What the peer of a session asks for: a pipeline, settings, and what it sends as text before the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scanside.convert import FORMS, Form
from scanside.errors import (
    ConfigError,
)
from scanside.mrd.messages import ConfigFile
from scanside.mrd.peers import Peer
from scanside.mrd.session import Opening
from scanside.mrd.xml import XmlError, parse_xml, without_declaration
from scanside.serving.parameters import NAMES_OF_NONE
from scanside.texts import encodable, shortened, shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


__all__ = [
    "Request",
    "parameters_of",
]

_MOST_PARAMETERS = 10_000
_DEEPEST_PARAMETER = 16
_MOST_TEXT = 1 << 20


@dataclass(frozen=True)
class Request:
    """What the opening of a session asks for.

    Attributes:
        pipeline: name or file; None for the server's own choice.
        settings: changed settings, as ``"stage.setting": value``.
        output: in what kind of message images are to go out; None for that in which images came in.
        peer: who asks; Gadgetron must be sent no text.
    """

    pipeline: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    output: Form | None = None
    peer: Peer = "mrd"

    @classmethod
    def of(cls, opening: Opening) -> Request:
        """Read a session's configuration::

            <configuration>
                <pipeline>grappa</pipeline>
                <property name="grappa.kernel_k1" value="4"/>
                <output>image_array</output>
            </configuration>

        All of its children may be absent, and so may the element. A configuration by name names a pipeline, with
        or without the ending ``.xml`` or ``.yaml``; ``default`` is the server's own choice, and so is what
        OpenRecon sends, ``openrecon``.

        Raises:
            ConfigError: the configuration is malformed, or holds something else.
        """
        if isinstance(opening.config, ConfigFile):
            name = re.sub(r"\.(xml|ya?ml)$", "", opening.config.name.strip())
            return cls(pipeline=None if name in NAMES_OF_NONE else name, peer=opening.peer)
        if opening.config_element is not None:
            return cls._of_element(opening.config_element, opening.peer)
        _check_empty(opening.config.xml)
        return cls(peer=opening.peer)

    @classmethod
    def _of_element(cls, element: Element, peer: Peer) -> Request:
        pipeline: str | None = None
        output: str | None = None
        settings: dict[str, str] = {}
        for child in element:
            name, text = _name(child), (child.text or "").strip()
            if name == "pipeline":
                pipeline = text or None
            elif name == "output":
                output = text
            elif name == "property":
                key, value = _property(child)
                settings[key] = value
            else:
                raise ConfigError(_unknown_child(name))
        if output not in (None, *FORMS):
            raise ConfigError(f"<output> is {shown(output)}; possible are {', '.join(FORMS)}")
        return cls(pipeline, settings, output, peer)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _property(element: Element) -> tuple[str, str]:
    """Name and value, in either of the two ways in which Gadgetron's files write them."""
    parts = {_name(child): (child.text or "").strip() for child in element}
    name, value = element.get("name", parts.get("name")), element.get("value", parts.get("value"))
    if not name or value is None:
        raise ConfigError(
            'a <property> of the configuration needs name and value: <property name="stage.setting" value="…"/>'
        )
    return name, value


def _unknown_child(name: str) -> str:
    if name in ("version", "readers", "writers", "stream"):
        return (
            "the configuration is a whole Gadgetron chain: give a node only its own <configuration>, with "
            "<pipeline>, <property> and <output>"
        )
    known = "<pipeline>, <property> and <output>"
    return f"<{shortened(name, 80)}> in the configuration is not known; possible are {known}"


def _check_empty(xml: bytes) -> None:
    """A configuration without its element must be empty: what cannot be read must not pass for a default."""
    rest = without_declaration(xml.strip(b"\0 \t\r\n"))
    if not rest:
        return
    try:
        found = f"a <{shortened(_name(parse_xml(rest)), 80)}> document"
    except XmlError as error:
        found = f"not well-formed XML ({error})"
    raise ConfigError(
        f"the configuration is {found}, expected <configuration><pipeline>NAME</pipeline></configuration>; it "
        f"begins with {shown(rest, 60)}"
    )


def parameters_of(texts: list[str]) -> dict[str, str]:
    """What a host sent as text before the data: a JSON object by its names, any other text as it is.

    Raises:
        ConfigError: an object that is larger or deeper than parameters are.
    """
    if sum(map(len, texts)) > _MOST_TEXT:
        raise ConfigError(f"the host sent more than {_MOST_TEXT} characters of text before the data")
    parameters: dict[str, str] = {}
    for i, text in enumerate(texts):
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        except RecursionError:
            raise _too_deep() from None
        if isinstance(document, dict):
            parameters.update(_flat(document))
        else:
            parameters["text" if i == 0 else f"text{i + 1}"] = text
    if len(parameters) > _MOST_PARAMETERS:
        raise ConfigError(
            f"the host sent {len(parameters)} parameters, at most {_MOST_PARAMETERS} are possible"
        )
    return parameters


def _flat(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """``{"a": {"b": 1}}`` becomes ``("a.b", "1")``; lists count from 0."""
    if depth > _DEEPEST_PARAMETER:
        raise _too_deep()
    if isinstance(value, dict):
        inner: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        yield name, encodable(value) if isinstance(value, str) else json.dumps(value)
        return
    for key, one in inner:
        # JSON may hold halves of characters, which nothing that tells of a session could write.
        key = encodable(str(key))
        yield from _flat(one, f"{name}.{key}" if name else key, depth + 1)


def _too_deep() -> ConfigError:
    return ConfigError(f"parameters of the host are nested more than {_DEEPEST_PARAMETER} deep")
