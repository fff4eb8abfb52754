"""What is wrong with a config: key, line, value and remedy of each thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from stemd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what stands there, what is allowed."""

    path: tuple[str | int, ...]
    message: str
    value: str = ""
    remedy: str = ""
    line: int | None = None

    @property
    def key(self) -> str:
        """The key as one writes it: pipeline[0].optics.energy_ev."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        return text

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "key": self.key,
            "line": self.line,
            "value": self.value,
            "message": self.message,
            "remedy": self.remedy,
        }


class ConfigProblemsError(ConfigError):
    """Everything that is wrong with a config file, in the file's order."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        lines = []
        for problem in self.problems:
            place = f"{source}:{problem.line}" if problem.line else source
            value = f" = {problem.value}" if problem.value else ""
            remedy = f"\n    remedy: {problem.remedy}" if problem.remedy else ""
            lines.append(f"{place}: {problem.key}{value}: {problem.message}{remedy}")
        super().__init__("\n".join(lines))


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy for a word that is not known: the nearest one that is, and all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if word in ("password", "passwd", "secret", "token"):
        return f"secrets do not stand in the file: use {word}_file"
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(sorted(names))}"


def problems_of(
    error: ValidationError, model: type[BaseModel], prefix: tuple[str | int, ...]
) -> list[Problem]:
    """pydantic's errors as problems with keys, values and remedies of ours."""
    problems: dict[tuple[str | int, ...], Problem] = {}
    for item in error.errors():
        where = tuple(part for part in item["loc"] if not _is_union_tag(part))
        value = "" if isinstance(item["input"], dict) else repr(item["input"])
        message, remedy = item["msg"].removeprefix("Value error, "), ""
        message = (message[:1].lower() + message[1:]).replace("tuple", "array")
        if item["type"] == "extra_forbidden":
            message, value = "unknown key", ""
            key = item["loc"][-1]  # whatever it looks like, it is the user's
            where = (*where[:-1], key) if where and where[-1] == key else (*where, key)
            remedy = nearest(str(key), _known_keys(model, where[:-1]))
        elif item["type"] == "missing":
            message, value = "is missing", ""
        elif item["type"] == "plugin":
            remedy = item["ctx"]["remedy"]
        elif item["type"] == "string_pattern_mismatch":
            remedy = f"allowed: {item['ctx']['pattern']}"
        problem = Problem((*prefix, *where), message, value, remedy)
        known = problems.setdefault(problem.path, problem)
        if known.message != message and len(where) < len(item["loc"]):  # another thing it may be
            problems[problem.path] = replace(known, message=f"{known.message}, or {message}")
    return list(problems.values())


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and (
        "[" in part or part.startswith(("literal", "tuple", "func", "constrained-"))
    )


def _known_keys(model: type[BaseModel], where: tuple[str | int, ...]) -> list[str]:
    current: Any = model
    for part in where:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((o for o in options if hasattr(o, "model_fields")), None)
    return list(getattr(current, "model_fields", {}))
