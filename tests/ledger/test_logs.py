"""What must fit together before a log signs again: what is refused, and what is made anew.

Each story begins with the data folder of a server that was stopped, changes something in it as an
accident or a careless restore would, and starts a server on it again.
"""

import base64
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from indelible.app import House
from indelible.errors import IndelibleError, LogExists, NotStarted
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.layout import LOCK_FILE
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.note import Signer, open_note
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.tree import leaf_hash, root_of
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import Logs
from indelible.ledger.seals import SEALS_FILE
from indelible.ledger.tilestore import FolderTiles
from indelible.registry.logs import SignedLogs
from indelible.registry.registry import Registry
from indelible.registry.values import SERVER_NAME
from indelible.settings import Settings
from tests.world import ADMIN_KEY, API_KEY, TOKEN, inside, product, spawn, started

EARLIER, LATER = 300, 700
LOG = "default"
BASE = "log.example/ledger"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folders of a real server: `earlier`, `later` of the same, and `fork`, which went on from
    `earlier` with other events to the same length."""
    folder = tmp_path_factory.mktemp("made")
    with started(folder / "later", INDELIBLE_LEDGER_ORIGIN=BASE) as server:
        send(server.send, EARLIER)
    shutil.copytree(folder / "later", folder / "earlier")
    shutil.copytree(folder / "later", folder / "fork")
    for name in ("later", "fork"):
        with started(folder / name) as server:
            send(server.send, LATER - EARLIER)
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder as it was at last."""
    shutil.copytree(made / "later", tmp_path / "data")
    return tmp_path / "data"


def send(post: Callable[..., object], count: int) -> None:
    for start in range(0, count, 100):
        events = [product(distinct_id=f"u{n}") for n in range(start, min(start + 100, count))]
        answer = post({"api_key": TOKEN, "batch": events})
        assert 200 == getattr(answer, "status_code", None)


@contextlib.contextmanager
def house(folder: Path, **settings: str) -> Iterator[House]:
    """The parts of a server over the folder."""
    made = House(
        Settings(
            data_dir=folder,
            server_token=TOKEN,
            server_api_key=API_KEY,
            server_admin_key=ADMIN_KEY,
            **settings,  # type: ignore[arg-type]
        )
    )
    try:
        yield made
    finally:
        made.close()


def take(source: Path, target: Path, *names: str) -> None:
    """Put files of one data folder into another, in place of those that are there."""
    for name in names:
        for old in target.glob(f"{name}*"):
            remove(old)
        for new in source.glob(f"{name}*"):
            copy = shutil.copytree if new.is_dir() else shutil.copy2
            copy(new, target / new.relative_to(source))


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


JOURNAL = ("journal.db", "unique.db")


def kept(folder: Path) -> dict[str, object]:
    """All that a refusal must leave as it is: tiles, notes and keys to the byte, and the lock."""
    found: dict[str, object] = {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("ledger", "keys")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }
    return {**found, LOCK_FILE: heads(folder)}


def heads(folder: Path) -> list[tuple[object, ...]] | bytes | None:
    path = folder / LOCK_FILE
    if not path.exists():
        return None
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        return connection.execute("SELECT * FROM head ORDER BY origin").fetchall()
    except apsw.Error:
        return path.read_bytes()


def head_of(folder: Path) -> Head:
    """The last signed checkpoint of the one project's log."""
    rows = heads(folder)
    assert isinstance(rows, list)
    (row,) = [row for row in rows if not str(row[0]).endswith(f"/{SERVER_NAME}")]
    return Head(*row)  # type: ignore[arg-type]


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def events_in(folder: Path) -> int:
    connection = apsw.Connection(str(folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    return int(connection.execute("SELECT count(*) FROM event_1").get)


# What is refused


def lock_gone(made: Path, data: Path) -> None:
    (data / LOCK_FILE).unlink()


def lock_emptied(made: Path, data: Path) -> None:
    (data / LOCK_FILE).write_bytes(b"")


def lock_without_the_log(made: Path, data: Path) -> None:
    connection = apsw.Connection(str(data / LOCK_FILE))
    connection.execute("DELETE FROM head")
    connection.close()


def lock_of_another_origin(made: Path, data: Path) -> None:
    connection = apsw.Connection(str(data / LOCK_FILE))
    connection.execute("UPDATE head SET origin = origin || '2'")
    connection.close()


def lock_is_no_database(made: Path, data: Path) -> None:
    (data / LOCK_FILE).write_bytes(b"lock" * 4096)


def lock_of_an_earlier_day(made: Path, data: Path) -> None:
    take(made / "earlier", data, LOCK_FILE)


def lock_of_an_earlier_day_and_no_checkpoint(made: Path, data: Path) -> None:
    take(made / "earlier", data, LOCK_FILE)
    (data / "ledger" / LOG / CHECKPOINT).unlink()


def lock_of_the_fork(made: Path, data: Path) -> None:
    take(made / "fork", data, LOCK_FILE)


def published_by_the_fork(made: Path, data: Path) -> None:
    take(made / "fork", data, f"ledger/{LOG}/{CHECKPOINT}")


def published_at_another_origin(made: Path, data: Path) -> None:
    signer = Signer.parse((data / "keys" / f"{LOG}.key").read_text())
    other = Signer(signer.key.name + "2", signer_seed(data))
    note = other.sign(Checkpoint(other.key.name, LATER, bytes(32)).text)
    (data / "ledger" / LOG / CHECKPOINT).write_text(note)


def published_text_of_another_origin(made: Path, data: Path) -> None:
    signer = Signer.parse((data / "keys" / f"{LOG}.key").read_text())
    note = signer.sign(Checkpoint("log.example/other", 3, bytes(32)).text)
    (data / "ledger" / LOG / CHECKPOINT).write_text(note)


def published_signature_broken(made: Path, data: Path) -> None:
    def change(note: bytes) -> bytes:
        return note.replace(b"\n%d\n" % size_published(data), b"\n1\n")

    edit(data / "ledger" / LOG / CHECKPOINT, change)


def published_unsigned(made: Path, data: Path) -> None:
    edit(data / "ledger" / LOG / CHECKPOINT, lambda note: note.split(b"\n\n")[0] + b"\n")


def published_is_rubbish(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / CHECKPOINT).write_bytes(b"\xff\x00rubbish")


def key_gone(made: Path, data: Path) -> None:
    (data / "keys" / f"{LOG}.key").unlink()


def keys_folder_gone(made: Path, data: Path) -> None:
    shutil.rmtree(data / "keys")


def key_of_another_log(made: Path, data: Path) -> None:
    origin = head_of(data).origin
    (data / "keys" / f"{LOG}.key").write_text(Signer.generate(origin).text + "\n")


def key_under_another_name(made: Path, data: Path) -> None:
    other = Signer("log.example/other", signer_seed(data))
    (data / "keys" / f"{LOG}.key").write_text(other.text + "\n")


def key_is_rubbish(made: Path, data: Path) -> None:
    (data / "keys" / f"{LOG}.key").write_bytes(b"\xff\xfe\x00")


def key_cut_short(made: Path, data: Path) -> None:
    edit(data / "keys" / f"{LOG}.key", lambda key: key[:20])


def witnessed_of_the_fork(made: Path, data: Path) -> None:
    note = (made / "fork" / "ledger" / LOG / CHECKPOINT).read_text()
    (data / "ledger" / LOG / WITNESSED).write_text(note)


def forged(data: Path, size: int) -> str:
    """A checkpoint signed with the log's own key over a root that was never its own."""
    signer = Signer.parse((data / "keys" / f"{LOG}.key").read_text())
    return signer.sign(Checkpoint(signer.key.name, size, bytes(32)).text)


def witnessed_of_the_fork_and_smaller(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / WITNESSED).write_text(forged(data, EARLIER))


def witnessed_that_is_larger(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / WITNESSED).write_text(forged(data, size_published(data) + 1))


def published_that_is_smaller_and_forked(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / CHECKPOINT).write_text(forged(data, EARLIER))


def lock_note_of_the_fork(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / CHECKPOINT).unlink()
    change_lock_note(data, head_of(made / "fork").note)


def lock_note_with_a_flipped_bit(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / CHECKPOINT).unlink()
    note = head_of(data).note
    change_lock_note(data, note[:-10] + chr(ord(note[-10]) ^ 1) + note[-9:])


def change_lock_note(data: Path, note: str) -> None:
    connection = apsw.Connection(str(data / LOCK_FILE))
    connection.execute("UPDATE head SET note = ?", (note,))
    connection.close()


def journal_of_an_earlier_day(made: Path, data: Path) -> None:
    take(made / "earlier", data, *JOURNAL)


def journal_of_an_earlier_day_and_no_tiles(made: Path, data: Path) -> None:
    take(made / "earlier", data, *JOURNAL)
    shutil.rmtree(data / "ledger" / LOG)


def journal_one_shorter(made: Path, data: Path) -> None:
    connection = apsw.Connection(str(data / "journal.db"))
    connection.execute("DELETE FROM event_1 WHERE id = (SELECT max(id) FROM event_1)")
    connection.close()


def journal_of_the_fork(made: Path, data: Path) -> None:
    take(made / "fork", data, *JOURNAL)


def journal_of_the_fork_and_longer(made: Path, data: Path) -> None:
    take(made / "fork", data, *JOURNAL)
    connection = apsw.Connection(str(data / "journal.db"))
    connection.execute("INSERT INTO event_1 (id, leaf) SELECT max(id) + 1, leaf FROM event_1")
    connection.close()


def journal_of_the_fork_and_no_tiles(made: Path, data: Path) -> None:
    take(made / "fork", data, *JOURNAL)
    shutil.rmtree(data / "ledger" / LOG / "tile")


def journal_of_the_fork_and_one_tile_gone(made: Path, data: Path) -> None:
    take(made / "fork", data, *JOURNAL)
    (data / "ledger" / LOG / "tile/0/002.p" / str(events_in(data) % 256)).unlink()


def last_leaf_changed(made: Path, data: Path) -> None:
    connection = apsw.Connection(str(data / "journal.db"))
    connection.execute(
        "UPDATE event_1 SET leaf = CAST(substr(leaf, 1, 64) || zeroblob(32) AS BLOB)"
        " WHERE id = (SELECT max(id) FROM event_1)"
    )
    connection.close()


def a_tile_holds_other_bytes(made: Path, data: Path) -> None:
    edit(data / "ledger" / LOG / "tile/1/000.p/2", lambda held: held[:-1] + b"\x00")


def the_last_bundle_holds_other_bytes(made: Path, data: Path) -> None:
    bundle = data / "ledger" / LOG / "tile/entries/002.p" / str(events_in(data) % 256)
    edit(bundle, lambda held: held[:-1] + bytes([held[-1] ^ 1]))


def a_tile_is_cut_short(made: Path, data: Path) -> None:
    edit(data / "ledger" / LOG / "tile/1/000.p/2", lambda held: held[:-1])


def signer_seed(data: Path) -> bytes:
    text = (data / "keys" / f"{LOG}.key").read_text().strip()
    return base64.b64decode(text.split("+", 4)[4])[-32:]


def size_published(data: Path) -> int:
    note = (data / "ledger" / LOG / CHECKPOINT).read_text()
    return int(note.split("\n")[1])


@pytest.mark.parametrize(
    ("accident", "code"),
    [
        (lock_gone, "lock_missing"),
        (lock_emptied, "lock_missing"),
        (lock_without_the_log, "lock_missing"),
        (lock_of_another_origin, "lock_missing"),
        (lock_is_no_database, "lock_unwritable"),
        (lock_of_an_earlier_day, "lock_behind"),
        (lock_of_an_earlier_day_and_no_checkpoint, "lock_behind"),
        (lock_of_the_fork, "lock_behind"),
        (published_by_the_fork, "lock_behind"),
        (published_at_another_origin, "lock_behind"),
        (published_text_of_another_origin, "lock_behind"),
        (published_signature_broken, "lock_behind"),
        (published_unsigned, "lock_behind"),
        (published_is_rubbish, "lock_behind"),
        (key_gone, "log_key_missing"),
        (keys_folder_gone, "log_key_missing"),
        (key_of_another_log, "log_key_missing"),
        (key_under_another_name, "log_key_missing"),
        (key_is_rubbish, "log_key_missing"),
        (key_cut_short, "log_key_missing"),
        (journal_of_an_earlier_day, "journal_shorter"),
        (journal_of_an_earlier_day_and_no_tiles, "journal_shorter"),
        (journal_one_shorter, "journal_shorter"),
        (journal_of_the_fork, "journal_differs"),
        (journal_of_the_fork_and_longer, "journal_differs"),
        (journal_of_the_fork_and_no_tiles, "journal_differs"),
        (journal_of_the_fork_and_one_tile_gone, "journal_differs"),
        (last_leaf_changed, "journal_differs"),
        (witnessed_of_the_fork, "lock_behind"),
        (witnessed_of_the_fork_and_smaller, "lock_behind"),
        (witnessed_that_is_larger, "lock_behind"),
        (published_that_is_smaller_and_forked, "lock_behind"),
        (lock_note_of_the_fork, "lock_unwritable"),
        (lock_note_with_a_flipped_bit, "lock_unwritable"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_and_left_as_they_are(
    made: Path, data: Path, accident: Callable[[Path, Path], None], code: str
) -> None:
    accident(made, data)
    before = kept(data)

    for _ in range(2):  # nor does a second try get by
        with pytest.raises(IndelibleError) as refused, house(data):
            pass
        assert code == refused.value.code, refused.value.message

    assert before == kept(data)


def test_without_an_accident_the_same_folder_is_taken(made: Path, data: Path) -> None:
    """The test above can fail."""
    before = kept(data)

    with house(data):
        pass

    assert before == kept(data)


def test_the_parts_are_taken_again_once_they_are_back(made: Path, data: Path) -> None:
    journal_of_the_fork_and_no_tiles(made, data)
    with pytest.raises(NotStarted), house(data):
        pass

    take(made / "later", data, *JOURNAL)

    with house(data):
        assert_sound(data)
    assert_made_anew(made, data)


def test_a_refusal_ends_the_process_with_its_code_and_a_hint(made: Path, data: Path) -> None:
    lock_gone(made, data)

    with pytest.raises(AssertionError, match="the server ended") as ended:
        spawn(data)

    assert "lock.db" in str(ended.value)
    assert "restore --new-log" in str(ended.value)
    assert "Traceback" not in str(ended.value)


# A journal that is new, beside parts of an older log


@pytest.mark.parametrize(
    "left", ["keys", "ledger", "lock.db", "keys ledger", "keys ledger lock.db"]
)
def test_a_new_journal_does_not_begin_a_second_history(data: Path, left: str) -> None:
    parts = left.split()
    for path in data.iterdir():
        if path.name not in parts:
            remove(path)
    before = kept(data)

    for _ in range(2):
        with pytest.raises(LogExists), house(data, ledger_origin=BASE):
            pass

    assert before == kept(data)
    assert not {"journal.db", "unique.db"} & {path.name for path in data.iterdir()}


@pytest.mark.parametrize("left", [f"tile/0/{0:03d}", POLICY])
def test_nor_does_it_where_a_single_file_of_it_is_left(data: Path, left: str) -> None:
    content = (data / "ledger" / LOG / left).read_bytes()
    for path in data.iterdir():
        remove(path)
    (data / "ledger" / LOG / left).parent.mkdir(parents=True)
    (data / "ledger" / LOG / left).write_bytes(content)

    with pytest.raises(LogExists), house(data):
        pass


def test_beside_the_lock_of_an_older_log_it_begins_one_of_another_name(data: Path) -> None:
    old = head_of(data)
    for path in data.iterdir():
        if path.name != LOCK_FILE:
            remove(path)

    with house(data) as one:
        log = one.following.ledger.logs.named(LOG)
        assert log is not None

    assert old.origin != log.origin
    rows = heads(data)
    assert isinstance(rows, list)
    assert tuple(old) in rows


# What is made anew


def checkpoint_gone(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / CHECKPOINT).unlink()


def checkpoint_of_an_earlier_day(made: Path, data: Path) -> None:
    take(made / "earlier", data, f"ledger/{LOG}/{CHECKPOINT}")


def policy_gone(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / POLICY).unlink()


def policy_of_another_day(made: Path, data: Path) -> None:
    (data / "ledger" / LOG / POLICY).write_text("quorum none\n")


def all_tiles_gone(made: Path, data: Path) -> None:
    shutil.rmtree(data / "ledger" / LOG / "tile")


def the_whole_ledger_gone(made: Path, data: Path) -> None:
    shutil.rmtree(data / "ledger")


def partial_tiles_gone(made: Path, data: Path) -> None:
    for partial in list((data / "ledger" / LOG / "tile").rglob("*.p")):
        shutil.rmtree(partial)


def tiles_of_an_earlier_day(made: Path, data: Path) -> None:
    shutil.rmtree(data / "ledger")
    shutil.copytree(made / "earlier" / "ledger", data / "ledger")


def drafts_left(made: Path, data: Path) -> None:
    for path in [path for path in (data / "ledger").rglob("*") if path.is_file()]:
        path.with_name(f".{path.name}.tmp").write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize(
    "accident",
    [
        checkpoint_gone,
        checkpoint_of_an_earlier_day,
        policy_gone,
        policy_of_another_day,
        all_tiles_gone,
        the_whole_ledger_gone,
        partial_tiles_gone,
        tiles_of_an_earlier_day,
        drafts_left,
    ],
)
def test_what_can_be_made_from_journal_and_lock_is_made_anew(
    made: Path, data: Path, accident: Callable[[Path, Path], None]
) -> None:
    accident(made, data)

    with house(data):
        assert_sound(data)

    assert_made_anew(made, data)


def assert_made_anew(made: Path, data: Path) -> None:
    now, before = kept(data), kept(made / "later")
    # partial tiles of sizes between may be on one side only: no checkpoint asks for them any more
    assert {k: v for k, v in before.items() if ".p/" not in k} == {
        k: v for k, v in now.items() if ".p/" not in k
    }
    assert all(before[name] == now[name] for name in before.keys() & now.keys())


@pytest.mark.parametrize(
    "accident", [a_tile_holds_other_bytes, the_last_bundle_holds_other_bytes, a_tile_is_cut_short]
)
def test_a_damaged_tile_at_the_end_is_rebuilt_since_the_journal_gives_what_was_signed(
    made: Path, data: Path, accident: Callable[[Path, Path], None]
) -> None:
    before = kept(data)
    accident(made, data)

    with house(data):
        pass

    now = kept(data)
    assert before == {name: now[name] for name in before}


def test_a_witnessed_note_that_cannot_be_read_is_passed_over(made: Path, data: Path) -> None:
    for note in (b"\xff rubbish", b"", forged(data, EARLIER).replace("log.", "l0g.").encode()):
        (data / "ledger" / LOG / WITNESSED).write_bytes(note)
        with house(data):
            pass


def test_each_file_of_the_tiles_is_made_anew_when_it_alone_is_gone(made: Path, data: Path) -> None:
    size = head_of(data).size
    wanted = {f"{n}.p/{size % 256}" for n in ("tile/0/002", "tile/entries/002")}
    wanted |= {f"tile/{kind}/00{n}" for kind in ("0", "entries") for n in (0, 1)}
    wanted |= {"tile/1/000.p/2"}
    for name in sorted(wanted):
        path = data / "ledger" / LOG / name
        content = path.read_bytes()
        path.unlink()

        with house(data):
            pass

        assert content == path.read_bytes(), name


@pytest.mark.parametrize("content", [None, b"", b"rubbish" * 1000])
def test_the_record_of_times_is_begun_anew_when_it_is_lost(
    data: Path, content: bytes | None
) -> None:
    for file in data.glob("seals.db*"):
        file.unlink()
    if content is not None:
        (data / "seals.db").write_bytes(content)

    with house(data) as one:
        log = one.following.ledger.logs.named(LOG)
        assert log is not None
        times = one.following.ledger.times(log.project_id, 0)

    assert times.sealed_at_ms is not None
    assert times.witnessed_at_ms is None


def test_events_stored_after_the_last_checkpoint_are_sealed_at_the_next_start(
    made: Path, data: Path
) -> None:
    take(made / "earlier", data, LOCK_FILE, SEALS_FILE)
    shutil.rmtree(data / "ledger")
    shutil.copytree(made / "earlier" / "ledger", data / "ledger")

    with house(data) as one:
        one.following.ledger.start()
        one.following.ledger.stop()

    assert head_of(made / "later")[:3] == head_of(data)[:3]  # the same tree, come by another way
    assert_sound(data)


def assert_sound(folder: Path) -> None:
    """The published checkpoint is the lock's, signed, and the root of the journal's leaves."""
    head = head_of(folder)
    connection = apsw.Connection(str(folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    leaves = [bytes(one) for (one,) in connection.execute("SELECT leaf FROM event_1 ORDER BY id")]
    assert root_of([leaf_hash(one) for one in leaves[: head.size]]) == head.root
    tiles = FolderTiles(folder / "ledger" / LOG)
    note = tiles.published(CHECKPOINT)
    assert note is not None
    key = Signer.parse((folder / "keys" / f"{LOG}.key").read_text()).key
    published = Checkpoint.parse(open_note(note, [key]).text)
    assert (head.origin, head.size, head.root) == (
        published.origin,
        published.size,
        published.root,
    )


# The birth of a log, broken off


class PowerLost(BaseException):
    """Raised where the story loses power: nothing above may catch it."""


class Fuse:
    """Blows at the given moment; `moments` counts those that have passed."""

    def __init__(self, blows_at: int | None) -> None:
        self.blows_at = blows_at
        self.moments = 0

    def pass_moment(self) -> None:
        if self.moments == self.blows_at:
            raise PowerLost
        self.moments += 1


class FusedLogs(SignedLogs):
    fuse: Fuse

    def identify(self, name: str, *, origin: str, vkey: str) -> None:
        self.fuse.pass_moment()
        super().identify(name, origin=origin, vkey=vkey)
        self.fuse.pass_moment()

    def open(self, name: str) -> None:
        self.fuse.pass_moment()
        super().open(name)
        self.fuse.pass_moment()


class FusedLock(LockStore):
    fuse: Fuse

    def create(self, head: Head) -> None:
        self.fuse.pass_moment()
        super().create(head)
        self.fuse.pass_moment()


def give_birth(folder: Path, fuse: Fuse) -> None:
    """The start of a server on a new folder, up to the moment of the fuse."""
    journal = SqliteJournal(Database(folder / "journal.db"))
    registry = Registry(RegistryTables(journal))
    registry.logs = logs = FusedLogs(registry)
    logs.fuse = fuse
    if not registry.snapshot.projects:
        registry.projects.create(LOG)
    lock = FusedLock(folder / LOCK_FILE, may_create=True)
    lock.fuse = fuse
    try:
        Logs(
            folder,
            registry,
            journal,
            lock,
            base=BASE,
            witnesses=Policy(),
            mend=lambda log, head: None,
            root_at=lambda log, head, size: head.root,
            sealed_to=lambda origin: 0,
        )
    finally:
        lock.close()
        journal.close()


def moments_of_a_birth() -> range:
    return range(6)


def test_a_birth_has_as_many_moments_as_are_tried(tmp_path: Path) -> None:
    fuse = Fuse(None)
    give_birth(tmp_path, fuse)
    assert len(moments_of_a_birth()) == fuse.moments


@pytest.mark.parametrize("moment", moments_of_a_birth())
@pytest.mark.parametrize("again", [False, True])
def test_a_birth_that_was_broken_off_is_finished_at_the_next_start(
    tmp_path: Path, moment: int, again: bool
) -> None:
    for _ in range(1 + again):
        with contextlib.suppress(PowerLost):
            give_birth(tmp_path, Fuse(moment))

    assert_begins(tmp_path)


def key_folder_without_a_key(folder: Path) -> None:
    (folder / "keys" / f"{LOG}.key").unlink()


def draft_of_a_key(folder: Path) -> None:
    key = folder / "keys" / f"{LOG}.key"
    key.with_name(f".{key.name}.tmp").write_bytes(key.read_bytes()[:9])
    key.unlink()


@pytest.mark.parametrize("left", [key_folder_without_a_key, draft_of_a_key])
def test_a_key_that_was_not_written_before_the_power_went_is_made_anew(
    tmp_path: Path, left: Callable[[Path], None]
) -> None:
    before_lock_create = 2
    with pytest.raises(PowerLost):
        give_birth(tmp_path, Fuse(before_lock_create))
    left(tmp_path)

    assert_begins(tmp_path)


@pytest.mark.parametrize("unpublished", [(CHECKPOINT,), (CHECKPOINT, POLICY)])
def test_a_log_whose_first_notes_were_not_published_publishes_them(
    tmp_path: Path, unpublished: tuple[str, ...]
) -> None:
    give_birth(tmp_path, Fuse(None))
    for name in unpublished:
        (tmp_path / "ledger" / LOG / name).unlink()

    assert_begins(tmp_path)


def test_a_key_of_an_open_log_is_never_made_anew(tmp_path: Path) -> None:
    give_birth(tmp_path, Fuse(None))
    key_folder_without_a_key(tmp_path)

    with pytest.raises(IndelibleError, match="is not there"):
        give_birth(tmp_path, Fuse(None))


def assert_begins(folder: Path) -> None:
    """A server starts on the folder, takes events and seals them, under one key."""
    with inside(folder, ledger_origin=BASE) as server:
        send(server.send, 3)
    assert_sound(folder)
    head = head_of(folder)
    assert head.size >= 3
    assert f"{BASE}/{LOG}" == head.origin
    connection = apsw.Connection(str(folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = connection.execute("SELECT origin, vkey, state FROM log WHERE project_id = 1").fetchall()
    key = Signer.parse((folder / "keys" / f"{LOG}.key").read_text()).key
    assert [(head.origin, key.text, "open")] == rows


# A journal of the version before there was a ledger


TO_SCHEMA_1 = """
DROP VIEW event;
DROP VIEW event_part_0;
ALTER TABLE event_1 RENAME TO event;
DROP TABLE log;
DROP TABLE event_0;
DELETE FROM project WHERE id = 0;
ALTER TABLE project DROP COLUMN ledger_access;
ALTER TABLE project DROP COLUMN retention_days;
ALTER TABLE project DROP COLUMN audit_monthly_limit;
ALTER TABLE project DROP COLUMN legal_hold;
ALTER TABLE access_key DROP COLUMN rate;
ALTER TABLE access_key DROP COLUMN burst;
ALTER TABLE access_key DROP COLUMN origins;
ALTER TABLE access_key DROP COLUMN scopes;
DROP TABLE usage;
CREATE TABLE usage (
    project_id INTEGER NOT NULL, month TEXT NOT NULL, events INTEGER NOT NULL,
    PRIMARY KEY (project_id, month)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_journal_of_schema_1_is_taken_over_and_sealed(data: Path) -> None:
    count = events_in(data)
    connection = apsw.Connection(str(data / "journal.db"))
    connection.execute(TO_SCHEMA_1)
    connection.close()
    for name in ("ledger", "keys", LOCK_FILE, "seals.db"):
        remove(data / name)

    with started(data) as server:
        server.stop()

    assert_sound(data)
    assert count <= head_of(data).size == events_in(data)


def test_a_project_is_not_made_beside_what_is_left_of_an_older_log(data: Path) -> None:
    with started(data) as server:
        (server.data_dir / "keys" / "shop.key").write_text("an older log's")
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        refused = server.http.post("/v1/projects", json={"name": "shop"}, headers=headers)
        assert (409, "already_exists") == (refused.status_code, refused.json()["code"])
        assert 404 == server.http.get("/ledger/shop/policy", headers=headers).status_code


def test_a_project_made_while_the_server_runs_has_a_log_at_once(data: Path) -> None:
    with started(data) as server:
        made = server.http.post(
            "/v1/projects", json={"name": "shop"}, headers={"Authorization": f"Bearer {ADMIN_KEY}"}
        ).json()
        answer = server.http.get(
            "/ledger/shop/checkpoint", headers={"Authorization": f"Bearer {made['api_key']}"}
        )
        assert 200 == answer.status_code, json.dumps(made)
        assert "/shop\n" in answer.text
