"""Every sync of the product, found in its source, and what takes it out of there.

A sync is a call of `fsync` or of what calls it, SQLite's `synchronous`, or the checkpoint that cuts
the WAL. Each is named by its file, its function and its own text, so that a new one has a new name
and wants its line in `test_removals.py`.
"""

import ast
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import indelible

SOURCE: Final = Path(indelible.__file__).parent

_SYNCING: Final = frozenset(
    {"fsync", "fdatasync", "sync", "syncfs", "_sync", "sync_file", "sync_folder", "sync_folders"}
    | {"_sync_folder", "write_file", "new_file", "make_folder", "keep_folder", "_keep_folder"}
)
_CHECKPOINT: Final = "wal_checkpoint"
_WEAKER: Final = {
    "PRAGMA synchronous = FULL": "PRAGMA synchronous = NORMAL",
    "PRAGMA synchronous = NORMAL": "PRAGMA synchronous = OFF",
}
_TOOL: Final = "__import__('indelible.unsynced').unsynced.without_sync"
_WITHOUT: Final = '''"""Calls without the syncs that are made in them."""
import os, threading
_fsync, _here = os.fsync, threading.local()

def _maybe(handle):
    if not getattr(_here, "off", 0):
        _fsync(handle)

os.fsync = _maybe

class Off:
    def __enter__(self):
        _here.off = getattr(_here, "off", 0) + 1
    def __exit__(self, *_):
        _here.off -= 1

class Block:
    def __init__(self, block):
        self.block = block
    def __enter__(self):
        return self.block.__enter__()
    def __exit__(self, *error):
        with Off():
            return self.block.__exit__(*error)

def without_sync(function):
    def call(*arguments, **named):
        with Off():
            done = function(*arguments, **named)
        return Block(done) if hasattr(done, "__exit__") else done
    return call
'''


@dataclass(frozen=True, slots=True)
class Site:
    """One sync: where it is, and the text that stands there without it."""

    file: str
    function: str
    text: str
    start: int
    end: int
    without: str
    number: int = 1

    @property
    def name(self) -> str:
        again = "" if self.number == 1 else f" ({self.number})"
        return f"{self.file} {self.function}: {self.text}{again}"


def sites() -> list[Site]:
    """All syncs of the product."""
    seen: Counter[str] = Counter()
    found: list[Site] = []
    for path in sorted(SOURCE.rglob("*.py")):
        for site in sorted(_sites_in(path), key=lambda site: site.start):
            seen[site.name] += 1
            found.append(replace(site, number=seen[site.name]))
    return found


def _sites_in(path: Path) -> Iterator[Site]:
    text = path.read_text()
    if not any(word in text for word in ("sync", "_folder(", "_file(", _CHECKPOINT)):
        return
    tree = ast.parse(text)
    lines = [0]
    for line in text.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    within = dict(_functions(tree))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        without = _without(node, called)
        if without is None:
            continue
        assert isinstance(node, ast.expr)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        yield Site(
            file=str(path.relative_to(SOURCE)),
            function=within.get(id(node), "(module)"),
            text=_shown(node),
            start=lines[node.lineno - 1] + node.col_offset,
            end=lines[node.end_lineno - 1] + node.end_col_offset,
            without=without,
        )


def _without(node: ast.AST, called: set[int]) -> str | None:
    """The text in place of a sync; None for anything else."""
    match node:
        case ast.Call(func=function):
            name = _last(function)
            switch = next((one for one in node.keywords if one.arg == "sync"), None)
            if name == _CHECKPOINT:
                return "None"
            if switch is not None:
                more = [one for one in node.keywords if one is not switch]
                rest = ", ".join(map(ast.unparse, [*node.args]))
                rest += "".join(f", {one.arg}={ast.unparse(one.value)}" for one in more)
                return f"{ast.unparse(function)}({rest}, sync=False)"
            if name in _SYNCING:
                spelled = ast.unparse(function)
                return f"{_TOOL}({spelled}){ast.unparse(node).removeprefix(spelled)}"
        case ast.Constant(value=str(value)) if value in _WEAKER:
            return repr(_WEAKER[value])
        case ast.Name() | ast.Attribute() if (
            _last(node) in _SYNCING - {"sync"} and id(node) not in called
        ):
            return "(lambda *_: None)"  # handed on as a value
    return None


def _last(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _shown(node: ast.expr) -> str:
    """The site's own text, short enough for a table."""
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _functions(tree: ast.AST, name: str = "") -> Iterator[tuple[int, str]]:
    for node in ast.iter_child_nodes(tree):
        inner = name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}.{node.name}" if name else node.name
        elif name:
            yield id(node), name
        yield from _functions(node, inner)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something else that a promise rests on, and the text that is there without it."""

    name: str
    file: str
    text: str
    without: str


def remove(what: Site | Fault, target: Path) -> Path:
    """A copy of the product without this; returns the folder to import it from."""
    package = target / "indelible"
    shutil.copytree(SOURCE, package)
    file = package / what.file
    content = file.read_bytes()
    if isinstance(what, Site):
        changed = content[: what.start] + what.without.encode() + content[what.end :]
        (package / "unsynced.py").write_text(_WITHOUT)
    else:
        assert 1 == content.count(what.text.encode()), f"{what.file} has changed: {what.text}"
        changed = content.replace(what.text.encode(), what.without.encode())
    compile(changed, what.file, "exec")
    file.write_bytes(changed)
    return target
