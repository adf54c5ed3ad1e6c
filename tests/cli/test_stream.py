"""A stream of a server that does not mean well."""

from collections.abc import Iterator
from typing import Any

import pytest

from indelible.cli.failure import Failure
from indelible.cli.server import Access, Server
from indelible.cli.stream import MOST_BLOCK_BYTES, Block, blocks


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Access("http://127.0.0.1:9", "key", "a test")) as server:
        yield server


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_stream_is_read_however_it_is_cut(server: Server, size: int) -> None:
    text = b'retry: 1\nid: a-1-1\n\n: here\nid: a-2-2\n\nid: a-3-3\nevent: event\ndata: {"k":1}\n\n'
    pieces = [text[at : at + size] for at in range(0, len(text), size)]

    assert [Block("a-1-1", b""), Block("a-2-2", b""), Block("a-3-3", b'{"k":1}')] == list(
        blocks(server, pieces)
    )


def test_a_message_without_an_end_is_not_kept(server: Server) -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield b"x" * 65_536

    with pytest.raises(Failure) as refused:
        list(blocks(server, endless()))
    assert "bad_answer" == refused.value.code
    assert f"{MOST_BLOCK_BYTES:,}" in refused.value.message
