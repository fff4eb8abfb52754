"""The index of every error text with its remedy, as Markdown, read from the source itself.

    python .ci/error_index.py > docs/reference/errors.md

An error is a call of StemdError or of a class made from it, of Problem (one line of a config),
of Notice, or a ValueError in a validator of settings. What the code puts in at run time is
written ‹name›. A text that stands in a variable or a constant is followed to where it is made; a
call that hands on another error's text has no row, since that text has its own.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
# the beginning of a module's path, and what its errors are about: the first that fits
ROOMS = {
    "adapters/merlin": "Merlin cameras",
    "adapters/dectris": "DECTRIS cameras",
    "adapters/timepix3": "Timepix3 cameras",
    "adapters/advapix": "AdvaCam cameras",
    "adapters/events": "Event cameras: line pulses and positions",
    "adapters/frames": "Frame cameras: headers and positions",
    "adapters/recordings": "Recordings and images in files",
    "adapters": "Cameras and their connections",
    "acquisition": "Config and settings",
    "config": "Config and settings",
    "settings": "Config and settings",
    "engines": "Engines",
    "scan": "Engines",
    "results": "Engines",
    "pixels": "Engines",
    "inference": "Networks",
    "mqtt": "MQTT",
    "events": "Sinks and plugins",
    "sinks": "Sinks and plugins",
    "plugins": "Sinks and plugins",
    "page": "The page",
    "storage": "Files and disk",
    "documents": "Files and disk",
    "daemon": "The daemon",
    "installation": "The daemon",
    "portable": "The daemon",
    "offline/cluster": "Clusters",
    "offline": "Processing, replays and completion",
    "api": "stemd.api",
    "client": "stemd.client",
    "cli": "The command line",
    "virtual": "The virtual microscope",
    "": "Other",
}
HEAD = """\
# Every error and what to do

Made from the source by `.ci/error_index.py`; a test compares. Search this page for a few words of \
your error. What stemd puts in at run time (a file, a number) is written ‹so›. Where no \
remedy stands, the text says what is allowed, or it is a notice about the data of which nothing is \
lost by doing nothing. Begin with what you see: [troubleshooting](../how-to/troubleshoot.md).
"""
Function = ast.FunctionDef | ast.AsyncFunctionDef
# which argument is the text, and which the remedy, where they are not the first two
ORDERS = {"Problem": (1, 3), "Notice": (1, 4), "DiskError": (0, 2)}
MOST = 12  # texts of one call: a text of many alternatives is shown with its first


@dataclass(frozen=True)
class Row:
    """One text that a user may read, and what to do about it."""

    room: str
    text: str
    remedy: str


@dataclass(frozen=True)
class Call:
    """Where an error is made, and the rows of it: none where it hands on another error's text."""

    place: str
    rows: tuple[Row, ...]


class Module:
    """One source file: where each piece stands, and what each name may be."""

    def __init__(self, path: Path, package: Path) -> None:
        self.path = path.relative_to(package)
        self.tree = ast.parse(path.read_text())
        self.scopes: dict[ast.AST, list[ast.AST]] = {}  # of each node, the innermost first
        self._values: dict[tuple[ast.AST, str], list[ast.expr]] = {}
        self.imported: dict[str, Path] = {}
        self.functions: dict[str, list[Function]] = {}
        self._look(self.tree, [self.tree])
        self.room = next(
            title for begin, title in ROOMS.items() if str(self.path).startswith(begin)
        )

    def _look(self, node: ast.AST, scopes: list[ast.AST]) -> None:
        for child in ast.iter_child_nodes(node):
            self.scopes[child] = scopes
            for name, value in _assigned(child):
                self._values.setdefault((scopes[0], name), []).append(value)
            if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("stemd."):
                path = Path(*str(child.module).split(".")[1:]).with_suffix(".py")
                self.imported.update({each.name: path for each in child.names})
            if isinstance(child, Function):
                self.functions.setdefault(child.name, []).append(child)
            self._look(child, [child, *scopes] if isinstance(child, Function) else scopes)

    def named(self, name: str, at: ast.AST | None = None) -> list[ast.expr]:
        """What is assigned to a name, in the innermost scope that assigns it."""
        for scope in self.scopes[at] if at is not None else [self.tree]:
            if (scope, name) in self._values:
                return self._values[scope, name]
        return []


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement gives a value, and the values."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for each, value in zip(target.elts, node.value.elts, strict=False):
                    if isinstance(each, ast.Name):  # text, remedy = "...", "..."
                        yield each.id, value
    elif isinstance(node, ast.NamedExpr):
        yield node.target.id, node.value


class Sources:
    """All modules of a package."""

    def __init__(self, package: Path) -> None:
        every = [Module(path, package) for path in sorted(package.rglob("*.py"))]
        self.modules = {module.path: module for module in every}
        self._makers: dict[tuple[Path, str], tuple[int, int] | None] = {}
        self.classes = {"StemdError"}
        made = [n for m in every for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef)]
        size = 0
        while size != len(self.classes):
            size = len(self.classes)
            kinds = (each for each in made if {_name(b) for b in each.bases} & self.classes)
            self.classes |= {each.name for each in kinds}

    def calls(self) -> Iterator[Call]:
        """Every call that makes an error, and every table of errors."""
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Dict) and module.scopes[node][0] is module.tree:
                    yield Call(f"{module.path}:{node.lineno}", tuple(self._table(module, node)))
                elif isinstance(node, ast.Call) and (places := self._places(module, node)):
                    rows = tuple(self._rows(module, node, *places))
                    yield Call(f"{module.path}:{node.lineno}", rows)

    def _places(self, module: Module, node: ast.Call) -> tuple[int, int] | None:
        """Which arguments are the text and the remedy of an error, None of any other call."""
        name = _name(node.func)
        if name == "ValueError":
            marks = getattr(module.scopes[node][0], "decorator_list", [])
            told = any("validator" in ast.unparse(mark) for mark in marks)
            return (0, 1) if told else None
        if name in ORDERS:
            return ORDERS[name]
        return (0, 1) if name in self.classes else self._made_by(module, name)

    def _made_by(self, module: Module, name: str) -> tuple[int, int] | None:
        """The same of a function that makes an error of a text that it is given."""
        if (module.path, name) not in self._makers:
            self._makers[module.path, name] = None  # one that calls itself
            for function in module.functions.get(name, ()):
                self._makers[module.path, name] = self._given(module, function)
        return self._makers[module.path, name]

    def _given(self, module: Module, function: Function) -> tuple[int, int] | None:
        own = [each.arg for each in function.args.args if each.arg not in ("self", "cls")]
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and (places := self._places(module, node)):
                text, remedy = (_argument(node, at) for at in places)
                if text is None or any(self._rows(module, node, *places, bare=False)):
                    continue
                used = [n.id for n in ast.walk(text) if isinstance(n, ast.Name) and n.id in own]
                if used and not any(isinstance(n, ast.Attribute) for n in ast.walk(text)):
                    told = remedy.id if isinstance(remedy, ast.Name) else ""
                    return own.index(used[-1]), own.index(told) if told in own else 99
        return None

    def _table(self, module: Module, node: ast.Dict) -> Iterator[Row]:
        """The pairs of text and remedy of a constant that has nothing else."""
        for value in node.values:
            texts = getattr(value, "elts", [])
            if len(texts) == 2 and all(_is_sentence(each) for each in texts):
                text, remedy = (self._texts(module, each)[0] for each in texts)
                yield Row(module.room, text, remedy)

    def _rows(
        self, module: Module, node: ast.Call, first: int, second: int, *, bare: bool = True
    ) -> Iterator[Row]:
        """Of a call; `bare`: also where only the remedy is its own, and the text another's."""
        text, remedy = _argument(node, first), _argument(node, second, "remedy")
        if text is None:
            return
        remedies = self._texts(module, remedy) if remedy is not None else [""]
        for said in self._texts(module, text)[:MOST]:
            if _says(said) or (bare and _says(remedies[0])):
                yield Row(module.room, said, " / ".join(dict.fromkeys(remedies)))

    def _texts(self, module: Module, node: ast.expr, depth: int = 0) -> list[str]:
        """Every text that an expression may be."""
        if isinstance(node, ast.Constant) and (isinstance(node.value, str) or depth == 0):
            return [str(node.value)]
        if isinstance(node, ast.JoinedStr):
            parts = [self._texts(module, part, depth) for part in node.values]
            return ["".join(each) for _, each in zip(range(MOST), product(*parts), strict=False)]
        if isinstance(node, ast.FormattedValue):
            return self._texts(module, node.value, depth + 2)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            pairs = product(
                self._texts(module, node.left, depth), self._texts(module, node.right, depth)
            )
            return ["".join(each) for _, each in zip(range(MOST), pairs, strict=False)]
        if isinstance(node, ast.IfExp):
            either = (self._texts(module, each, depth) for each in (node.body, node.orelse))
            return list(dict.fromkeys(text for texts in either for text in texts))
        if isinstance(node, ast.BoolOp):  # name or "nobody"
            others = [each for each in node.values[1:] if isinstance(each, ast.Constant)]
            return [f"‹{_placeholder(node)}›", *(str(each.value) for each in others)]
        if isinstance(node, ast.Call) and _name(node.func) == "plain_text" and node.args:
            return self._texts(module, node.args[0], depth)
        if isinstance(node, ast.Name) and depth < 3:
            found = [
                text
                for value in self._values(module, node)
                for text in self._texts(module, value, depth + 1)
            ]
            if found:
                return list(dict.fromkeys(found))
        return [f"‹{_placeholder(node)}›"]

    def _values(self, module: Module, node: ast.Name) -> list[ast.expr]:
        """What stands behind a name: here, or in the module that it is imported from."""
        found = module.named(node.id, node)
        if not found and node.id in module.imported:
            other = self.modules.get(module.imported[node.id])
            found = other.named(node.id) if other is not None else []
        return found


def _argument(node: ast.Call, place: int, key: str = "") -> ast.expr | None:
    """The argument at a place, or of a name."""
    if place < len(node.args):
        return node.args[place]
    return {each.arg: each.value for each in node.keywords}.get(key)


def _is_sentence(node: ast.expr) -> bool:
    """Whether it is a text of several words."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and " " in str(node.value)
    )


def _name(node: ast.AST) -> str:
    """`NAME` of `NAME` and of `module.NAME`."""
    return str(getattr(node, "id", getattr(node, "attr", "")))


def _placeholder(node: ast.expr) -> str:
    """A short name of what stands there at run time."""
    if isinstance(node, ast.Name | ast.Attribute):
        return _name(node).strip("_")
    if isinstance(node, ast.Call) and node.args and not isinstance(node.args[0], ast.GeneratorExp):
        return _placeholder(node.args[0])
    if isinstance(node, ast.Subscript | ast.Starred | ast.Await):
        return _placeholder(node.value)
    if isinstance(node, ast.BoolOp):
        return _placeholder(node.values[0])
    return "…"


def _says(text: str) -> bool:
    """Whether a text has words of its own beside what is put in."""
    return len(re.findall(r"\b[a-z]+\b", re.sub("‹[^›]*›", "", text), re.IGNORECASE)) > 1


def markdown(sources: Sources) -> str:
    """The whole page."""
    told: dict[str, dict[str, list[str]]] = {room: {} for room in ROOMS.values()}
    for call in sources.calls():
        for row in call.rows:
            remedies = told[row.room].setdefault(row.text, [])
            if row.remedy and row.remedy not in remedies:
                remedies.append(row.remedy)
    lines = [HEAD]
    for room, rows in told.items():
        if rows:
            lines += [f"## {room}\n", "| it says | what to do |\n|---|---|"]
            for text in sorted(rows, key=str.lower):
                lines.append(f"| {_cell(text)} | {_cell(' / '.join(rows[text]))} |")
            lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text as a cell of a table: nothing in it is Markdown."""
    for sign in "\\`*_[]<>|~#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(markdown(Sources(ROOT / "stemd")))
