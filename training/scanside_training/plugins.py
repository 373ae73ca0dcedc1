"""Settings that are chosen by their ``kind`` from what installed distributions register.

A field whose type is a base class of these takes all kinds that there are, Scanside's own and anyone else's::

    class TrainConfig(BaseModel):
        model: NetworkConfig        # {kind: unet, channels: 32}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator
from pydantic.json_schema import JsonSchemaValue

from scanside.errors import ScansideError
from scanside.registry import Registry
from scanside.texts import shown

__all__ = ["PluginSettings"]


def _base_of(cls: type[PluginSettings]) -> type[PluginSettings]:
    """The base class of its group."""
    return next((one for one in reversed(cls.__mro__) if "GROUP" in vars(one)), cls)


class PluginSettings(BaseModel):
    """What all such settings have in common: unknown keys are errors, nothing changes.

    Attributes:
        kind: the name under which they are registered.
        GROUP: of entry points, set by the base class of a group.
        NOUN: what one of the group is called in messages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    GROUP: ClassVar[str]
    NOUN: ClassVar[str]

    kind: str

    @classmethod
    def registry(cls) -> Registry[PluginSettings]:
        """All of the group."""
        return Registry(cls.GROUP, cls.NOUN, _base_of(cls), _base_of(cls).__name__)

    @classmethod
    def chosen(cls, settings: Any) -> type[PluginSettings]:
        """The class that settings are of: for a base class that of their ``kind``, else this one.

        Raises:
            ValueError: no kind is given, or one that there is not.
        """
        if cls is not _base_of(cls):
            return cls
        if isinstance(settings, cls):
            return type(settings)
        kind = settings.get("kind") if isinstance(settings, Mapping) else None
        if not isinstance(kind, str):
            found = shown(settings) if kind is None and not isinstance(settings, Mapping) else shown(kind)
            known = ", ".join(cls.registry().names())
            raise ValueError(
                f"a {cls.NOUN} is given by its kind and its settings, such as 'kind: …', found {found}; kinds are: "
                f"{known}"
            )
        try:
            return cls.registry().load(kind)
        except ScansideError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> Any:
        if cls is not _base_of(cls):
            return handler(source)

        def validated(settings: Any) -> PluginSettings:
            return settings if isinstance(settings, cls) else cls.chosen(settings).model_validate(settings)

        return PlainValidator(validated).__get_pydantic_core_schema__(Any, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if cls is not _base_of(cls):
            return handler(schema)
        kinds = [cls.registry().load(name) for name in cls.registry().names()]
        return {"oneOf": [handler(kind.__pydantic_core_schema__) for kind in kinds]}
