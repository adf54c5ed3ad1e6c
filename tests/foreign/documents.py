"""The vendors' guides, and the code in them.

The guides are read where they lie, beside the repository; none of their code is kept in it. They
are known by what they say, not by their file names. As texts they have lost their code fences:

- in vTilt's guides the language is stuck to the end of a block's last line: ``}go``;
- in ImmutableLog's guide it is a line of its own before the block, and nothing marks the end.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.foreign.needs import Missing

VTILT_GO: Final = "\npackage vtilt\n"
VTILT_RUST: Final = "\n// src/vtilt.rs\n"
IMMUTABLELOG_GO: Final = "\npackage immutablelog\n"

_FOLDER_VARIABLE: Final = "FOREIGN_DOCUMENTS"
_BESIDE_THE_REPOSITORY: Final = Path(__file__).parents[3] / "shared" / "seeds"

# The packages of Go's standard library that the printed code uses, by the name in the code.
_GO_PACKAGES: Final = {
    "bytes": "bytes",
    "context": "context",
    "fmt": "fmt",
    "http": "net/http",
    "json": "encoding/json",
    "os": "os",
    "sha256": "crypto/sha256",
    "sync": "sync",
    "time": "time",
}
_GO_COMMENT: Final = re.compile(r"//[^\n]*")
_GO_HEAD: Final = re.compile(r"\A\s*(?:package \w+\s+)?(?:import \([^)]*\)\s+)?")


class CannotCut(Exception):
    """A guide does not hold the code that was to be cut from it: it has another shape."""


def folder() -> Path:
    """Where the guides are: beside the repository, or where FOREIGN_DOCUMENTS says."""
    return Path(os.environ.get(_FOLDER_VARIABLE) or _BESIDE_THE_REPOSITORY)


def find(mark: str, where: Path) -> str:
    """The text of the one document in `where` that contains `mark`.

    Raises:
        Missing: the folder, or the document, does not exist.
        CannotCut: several documents contain the mark.
    """
    texts = [path.read_text(encoding="utf-8") for path in sorted(where.glob("*.txt"))]
    found = [text for text in texts if mark in text]
    if not found:
        raise Missing(
            f"no guide in {where} has {mark.strip()!r}; {_FOLDER_VARIABLE} may name a folder"
        )
    if len(found) > 1:
        raise CannotCut(f"{len(found)} documents have the line {mark.strip()!r}")
    return found[0]


def block(text: str, *, first: str, language: str) -> str:
    """The block of a vTilt guide from the line `first` to the line that ends with the language.

    The language is known from code by what it is stuck to: a bracket, a quote or a semicolon.

    Raises:
        CannotCut: there is no such line, or no such end behind it.
    """
    stuck = re.escape(language)
    wanted = re.compile(rf"^{re.escape(first)}\n(?:.*\n)*?.*?[]}})\"';](?={stuck}$)", re.MULTILINE)
    match = wanted.search(text)
    if match is None:
        raise CannotCut(f"no block begins with the line {first!r} and ends with {language!r}")
    return match[0] + "\n"


def labelled_block(text: str, *, holding: str) -> str:
    """The block of ImmutableLog's guide that has the line `holding`.

    It begins behind its label, a line ``go``, and runs to the last line before the next label that
    begins with a closing bracket or a comment: behind it stands prose.

    Raises:
        CannotCut: none has it, or several.
    """
    pieces = [f"{piece}\n" for piece in re.split(r"^go$", text, flags=re.MULTILINE)[1:]]
    found = [piece for piece in pieces if f"\n{holding}\n" in piece]
    if len(found) != 1:
        raise CannotCut(f"{len(found)} blocks have the line {holding!r}")
    ends = list(re.finditer(r"^(?:[)}]|//).*\n", found[0], re.MULTILINE))
    if not ends or found[0].index(f"\n{holding}\n") >= ends[-1].end():
        raise CannotCut(f"the block with the line {holding!r} has no end")
    return found[0][: ends[-1].end()].lstrip("\n")


def split_at(code: str, line: str) -> tuple[str, str]:
    """The code before a line and the code behind it.

    Raises:
        CannotCut: the line is not there, or more than once.
    """
    parts = re.split(rf"^{re.escape(line)}\n", code, flags=re.MULTILINE)
    if len(parts) != 2:
        raise CannotCut(f"the line {line!r} is there {len(parts) - 1} times")
    return parts[0], parts[1]


def uncommented(code: str) -> str:
    """The code that stands in ``//`` comments."""
    return re.sub(r"^// ?", "", code, flags=re.MULTILINE)


def go_file(package: str, *parts: str, imports: Iterable[str] = ()) -> str:
    """A Go file of `parts`, with the package line and the imports that it needs to build.

    Package and import lines at the head of a part give way to these: as printed they name packages
    that are not used, which Go refuses. An import of `imports`, ``name "path"`` or ``"path"``,
    stands in for the standard library's package of that name.
    """
    code = "\n".join(_GO_HEAD.sub("", part, count=1) for part in parts)
    mine = {_go_name(line): line for line in imports}
    used = {name: f'"{_GO_PACKAGES[name]}"' for name in _used_packages(code)}
    lines = "\n".join(sorted({**used, **mine}.values()))
    return f"package {package}\n\nimport (\n{lines}\n)\n\n{code}"


def _used_packages(code: str) -> Iterator[str]:
    bare = _GO_COMMENT.sub("", code)
    return (name for name in _GO_PACKAGES if re.search(rf"(?<![\w.\"]){name}\.[A-Z]", bare))


def _go_name(line: str) -> str:
    return line.partition('"')[0].strip() or line.strip('"').rpartition("/")[2]
