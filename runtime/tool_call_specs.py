"""Tool specs as the tool-call parser needs them: which names exist, which parameters, of which schema.

Reads OpenAI-style specs (`{"type": "function", "function": {...}}`) and bare function dicts. A spec that is
not of that shape is skipped: a bad spec must not cost a run its turn. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runtime import schema_values
from runtime.schema_values import Converted


@dataclass(frozen=True)
class ToolSpec:
    """One tool's parameters. `open` tools take parameters of any name, as text unless declared."""

    name: str
    schema: object = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    open: bool = True

    def declares(self, parameter: str) -> bool:
        """Whether the schema names this parameter."""
        return parameter in self.parameters

    def accepts(self, parameter: str) -> bool:
        """Whether a parameter of this name can be one of the tool's."""
        return self.open or parameter in self.parameters

    def convert(self, parameter: str, text: str) -> Converted:
        """The text of a parameter as a value of its schema."""
        return schema_values.convert(text, self._schema_of(parameter), self.schema)

    def takes_text(self, parameter: str) -> bool:
        """Whether every text is a value of this parameter."""
        return schema_values.is_text(self._schema_of(parameter), self.schema)

    def _schema_of(self, parameter: str) -> object:
        if parameter in self.parameters:
            return self.parameters[parameter]
        return self.schema.get("additionalProperties") if isinstance(self.schema, Mapping) else None


class ToolBook:
    """The tools of one turn by name. Without any tool, every name is taken as known."""

    def __init__(self, tools: object) -> None:
        listed = tools if isinstance(tools, Iterable) and not isinstance(tools, str | bytes | Mapping) else ()
        specs = [spec for spec in map(_read, listed) if spec is not None]
        self._specs = {spec.name: spec for spec in specs}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tools, in the order given."""
        return tuple(self._specs)

    def declares(self, name: str) -> bool:
        """Whether a tool of this name was given."""
        return name in self._specs

    def knows(self, name: str) -> bool:
        """Whether a call of this name can be meant (any, when no tools were given)."""
        return not self._specs or name in self._specs

    def proper(self, name: str) -> str:
        """The name as the specs have it: quotes that the model put around a known name are taken off."""
        bare = name.strip("\"'")
        return bare if name not in self._specs and bare in self._specs else name

    def spec(self, name: str) -> ToolSpec:
        """The tool's spec; for an unknown name one that takes any parameter as text."""
        return self._specs.get(name) or ToolSpec(name)


def _read(tool: object) -> ToolSpec | None:
    if not isinstance(tool, Mapping):
        return None
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    schema = function.get("parameters")
    if not isinstance(schema, Mapping):
        return ToolSpec(function["name"])
    extra = schema.get("additionalProperties", False)
    return ToolSpec(
        name=function["name"],
        schema=schema,
        parameters=schema_values.properties(schema),
        required=schema_values.required(schema),
        # A schema that says nothing about properties at all restricts nothing either.
        open=extra is True or (isinstance(extra, Mapping)) or not _restricts(schema),
    )


def _restricts(schema: Mapping[str, object]) -> bool:
    return bool({"properties", "$ref", "allOf", "anyOf", "oneOf"} & schema.keys())
