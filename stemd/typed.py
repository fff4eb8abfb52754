"""Tables of a config or a message whose values are of the kind that is asked for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

LEAST, MOST = 1e-9, 1e9
"""No amount that a microscope has, in the units of the config, lies beyond these."""


def meant(value: float | None) -> float | None:
    """The amount that a file says, None where no table would take it: nobody can mean it."""
    return value if value is not None and LEAST <= value <= MOST else None


def _not_tiny(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"must be at least {LEAST:g}")
    return value


PositiveFloat = Annotated[
    float, Field(gt=0.0, le=MOST, allow_inf_nan=False), AfterValidator(_not_tiny)
]
Length = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]
Signed = Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
"""A length or a place on either side of 0."""
Angle = Annotated[float, Field(ge=-3600.0, le=3600.0, allow_inf_nan=False)]
"""In degrees: whoever counts turns stays within ten."""


def _as_is(node: Any) -> Any:
    if isinstance(node, list):
        return [_as_is(each) for each in node]
    if isinstance(node, tuple):
        return tuple(_as_is(each) for each in node)
    if not isinstance(node, dict):
        return node
    # a metadata's dict is no schema, nor is a default's
    kept = ("metadata", "default", "serialization", "expected", "config")
    made = {key: value if key in kept else _as_is(value) for key, value in node.items()}
    match made.get("type"):
        case "bool":
            return {**made, "strict": True}
        case "float" | "int":
            return core_schema.no_info_before_validator_function(_a_number(made["type"]), made)
    return made


def _a_number(kind: str) -> Any:
    def number(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("must be a number, not true or false")
        if isinstance(value, str | bytes | bytearray):
            raise PydanticKnownError("int_type" if kind == "int" else "float_type")
        return value

    return number


class Table(BaseModel):
    """Base of all tables that come from outside.

    pydantic takes "yes" and 1 for true, true for 1, and "1e3" for 1000. Whoever sends these means
    something else or has a mistake in a program, and hears of it here: true and false are
    booleans only, and numbers are numbers. A whole number may be written as 61.0.
    """

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        """The schema of pydantic without its conversions to booleans and numbers."""
        schema: CoreSchema = _as_is(handler(source))
        return schema
