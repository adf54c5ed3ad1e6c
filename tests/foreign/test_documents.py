"""How code is cut from a document that has lost its code fences."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.foreign import documents
from tests.foreign.documents import CannotCut
from tests.foreign.needs import Missing, needed

STUCK = """A guide
Some prose with go in it.
# .env
HOST=https://example.test
// one.go
package one
func init() {
go drain()
}go
#2. The next
package main
func main() {
}go
Prose again."""

LABELLED = """Guide

Prose about it.

go
package one

import (
	"fmt"
	"os"
)

func First() {
	fmt.Println("os.Exit")
}

// Usage:
// one.First()

First() is called like this. Prose behind a block.

go
import (
	"fmt"
)

func Second() {
}

// Usage:
x := f(map[string]any{
	"a": 1,
})

The last prose."""

lines_of_code = st.lists(
    st.text(
        st.characters(codec="ascii", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e"), max_size=20
    )
    .map(str.rstrip)
    .filter(lambda line: not line.endswith("go") and line != "FIRST"),
    max_size=8,
)


@given(before=lines_of_code, code=lines_of_code, after=lines_of_code)
def test_a_block_is_cut_from_its_first_line_to_the_language_stuck_to_its_last(
    before: list[str], code: list[str], after: list[str]
) -> None:
    text = "\n".join([*before, "FIRST", *code, "}go", *after, ""])
    cut = documents.block(text, first="FIRST", language="go")
    assert "\n".join(["FIRST", *code, "}", ""]) == cut


def test_blocks_of_one_document_are_told_apart_by_their_first_lines() -> None:
    first = documents.block(STUCK, first="// one.go", language="go")
    second = documents.block(STUCK, first="package main", language="go")
    assert "// one.go\npackage one\nfunc init() {\ngo drain()\n}\n" == first
    assert "package main\nfunc main() {\n}\n" == second


@pytest.mark.parametrize(("first", "language"), [("package two", "go"), ("package main", "rust")])
def test_a_block_that_is_not_there_cannot_be_cut(first: str, language: str) -> None:
    with pytest.raises(CannotCut, match=first):
        documents.block(STUCK, first=first, language=language)


def test_a_labelled_block_ends_before_the_prose_behind_it() -> None:
    cut = documents.labelled_block(LABELLED, holding="func First() {")
    assert cut.startswith("package one\n")
    assert cut.endswith("\n// one.First()\n")
    assert documents.labelled_block(LABELLED, holding="func Second() {").endswith("\n})\n")


@pytest.mark.parametrize("line", ["func Third() {", "// Usage:", "The last prose."])
def test_a_labelled_block_must_have_its_line_and_be_the_only_one(line: str) -> None:
    with pytest.raises(CannotCut, match=re.escape(line)):
        documents.labelled_block(LABELLED, holding=line)


def test_code_is_split_at_a_line_that_stands_in_it_once() -> None:
    assert ("a\n", "b\n") == documents.split_at("a\n// Usage:\nb\n", "// Usage:")
    for code in ("a\n", "// Usage:\n// Usage:\n"):
        with pytest.raises(CannotCut):
            documents.split_at(code, "// Usage:")


def test_code_in_comments_is_freed_of_them() -> None:
    assert "x := 1\n\nf(\n    x)\n" == documents.uncommented("// x := 1\n//\n// f(\n//     x)\n")


def test_a_go_file_imports_what_its_code_uses_and_nothing_else() -> None:
    cut = documents.labelled_block(LABELLED, holding="func First() {")
    code = 'func First() {\n\tfmt.Println("os.Exit")\n}\n\n// Usage:\n// one.First()\n'
    assert f'package two\n\nimport (\n"fmt"\n)\n\n{code}' == documents.go_file("two", cut)


def test_an_import_can_stand_in_for_the_standard_librarys() -> None:
    made = documents.go_file("one", "var x = time.Now()\n", imports=['time "example/stopped"'])
    assert 'package one\n\nimport (\ntime "example/stopped"\n)\n\nvar x = time.Now()\n' == made


def test_a_document_is_found_by_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "7.txt").write_text("prose\npackage one\n")
    (tmp_path / "3.txt").write_text("prose\npackage two\n")
    assert "prose\npackage one\n" == documents.find("\npackage one\n", tmp_path)


def test_a_document_that_is_absent_is_missed_and_one_that_is_there_twice_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(Missing, match="FOREIGN_DOCUMENTS"):
        documents.find("\npackage one\n", tmp_path / "nowhere")
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text("prose\npackage one\n")
    with pytest.raises(CannotCut, match="2 documents"):
        documents.find("\npackage one\n", tmp_path)


def test_what_is_missing_skips_a_test_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such thing"), needed():
        raise Missing("no such thing")


def test_in_ci_what_is_missing_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such thing"), needed():
        raise Missing("no such thing")
