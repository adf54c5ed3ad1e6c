"""A disk, its cache, and what a power cut may leave of both.

The disk keeps what POSIX promises and no more, which is less than any one file system gives:

- `fsync` and `fdatasync` of a file make its bytes and its length durable; not its name.
- `fsync` of a folder makes durable which names are in it and which file each one means.
- All else may reach the disk at any time, in any order, or never. A name may be there without the
  bytes it was made for: the file is then empty, or has holes of zeros.
- A rename is whole or not at all, even between folders; syncing either one makes it durable, and
  with it the renames by which the file came there.
- A write is torn between sectors of 512 bytes, never within one; pages of 4 KiB go on their own.
- A folder is gone only once everything in it is.
- After a sync that failed the cache is clean: what was unwritten may be on the disk or not, and no
  later sync changes that. Only writing it again does.
"""

import itertools
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.power.recording import Call, Op, Recording

SECTOR: Final = 512
PAGE: Final = 4096


class Unbelievable(Exception):
    """A recording that this model cannot follow, or that is not of what happened."""


@dataclass(slots=True, eq=False)
class Change:
    """What was done and is not durable: to the bytes of a file, or to the names in folders."""

    number: int

    @property
    def is_data(self) -> bool:
        return isinstance(self, Write | Resize)


@dataclass(slots=True, eq=False)
class Write(Change):
    """Bytes at a place of a file. `doomed`: a sync of it has failed, and no later one helps."""

    file: "File"
    at: int
    data: bytes
    doomed: bool = False


@dataclass(slots=True, eq=False)
class Resize(Change):
    """A new length of a file."""

    file: "File"
    size: int


@dataclass(slots=True, eq=False)
class Entries(Change):
    """Names that mean another file from now on, or none: all of these or none of them.

    `emptied` is the folder that was taken away.
    """

    names: tuple[tuple["Folder", str, "Node | None"], ...]
    emptied: "Folder | None" = None


@dataclass(slots=True, eq=False)
class File:
    """The durable bytes of a file, and what was done to them since."""

    durable: bytes = b""
    pending: list[Write | Resize] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Folder:
    """The durable names in a folder; what was done to names since is with the disk."""

    durable: dict[str, "Node"] = field(default_factory=dict)
    now: dict[str, "Node"] = field(default_factory=dict)


Node = File | Folder


@dataclass(frozen=True, slots=True)
class State:
    """What a power cut left: the bytes of every file, None for a folder.

    `how` says which of the unsynced changes had reached the disk.
    """

    how: str
    files: Mapping[str, bytes | None]

    @property
    def digest(self) -> int:
        """Tells states of one process apart; Python keeps the hash of bytes that stay the same."""
        return hash(frozenset(self.files.items()))

    def put(self, folder: Path) -> None:
        """Make `folder` so."""
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in sorted(self.files.items()):
            if content is None:
                (folder / path).mkdir(exist_ok=True)
            else:
                (folder / path).write_bytes(content)


class Disk:
    """A disk to which the calls of a recording are made, one by one."""

    def __init__(self, before: Mapping[str, bytes | None]) -> None:
        self.root = Folder()
        self.pending_names: list[Entries] = []
        self._by_inode: dict[int, File] = {}
        self._dirty: dict[File, None] = {}
        self._number = 0
        for path, content in sorted(before.items()):
            folder, name = self._parent(path)
            node: Node = Folder() if content is None else File(content)
            folder.durable[name] = folder.now[name] = node

    def pending(self) -> list[Change]:
        """Everything that is not durable, in the order in which it was done."""
        data = [change for file in self._dirty for change in file.pending]
        return sorted([*self.pending_names, *data], key=lambda change: change.number)

    def do(self, call: Call) -> None:
        """Make one call.

        Raises:
            Unbelievable: it is none that can be followed.
        """
        match call.op:
            case Op.CREATE:
                file = self._by_inode[call.inode] = File()
                self._name((call.path, file))
            case Op.WRITE:
                file = self._file(call)
                self._change(Write(self._next(), file, call.at, call.data))
            case Op.TRUNCATE:
                self._change(Resize(self._next(), self._file(call), call.at))
            case Op.SYNC:
                self._sync(call)
            case Op.SYNC_FAILED:
                file = self._file(call)
                file.pending = [piece for change in file.pending for piece in _doomed(change)]
            case Op.MKDIR:
                self._name((call.path, Folder()))
            case Op.UNLINK:
                self._name((call.path, None))
            case Op.RMDIR:
                folder = self._node(call.path)
                assert isinstance(folder, Folder)
                self._name((call.path, None), emptied=folder)
            case Op.LINK:
                self._name((call.second, self._node(call.path)))
            case Op.RENAME:
                self._name((call.path, None), (call.second, self._node(call.path)))
            case Op.ODD:
                raise Unbelievable(f"{call.data.decode()} on {call.path} cannot be followed")
            case Op.MARK:
                pass

    def state(
        self, kept: Collection[Change], how: str, torn: Mapping[Write, int] | None = None
    ) -> State:
        """What is left if of the pending changes exactly these reach the disk.

        `torn` has the writes of which only the first bytes do.
        """
        files: dict[str, bytes | None] = {}
        names: dict[tuple[int, str], Node | None] = {}
        kept = self._with_causes(kept)
        for change in self.pending_names:
            if change in kept:
                for folder, name, node in change.names:
                    names[id(folder), name] = node
        self._walk(self.root, "", names, kept, torn or {}, files)
        return State(how, files)

    # Behind the scenes

    def _walk(
        self,
        folder: Folder,
        prefix: str,
        names: Mapping[tuple[int, str], Node | None],
        kept: Collection[Change],
        torn: Mapping[Write, int],
        files: dict[str, bytes | None],
    ) -> None:
        """Put down what is in a folder."""
        entries: dict[str, Node | None] = dict(folder.durable)
        for (owner, name), node in names.items():
            if owner == id(folder):
                entries[name] = node
        for name, node in entries.items():
            path = f"{prefix}{name}"
            if isinstance(node, Folder):
                files[path] = None
                self._walk(node, f"{path}/", names, kept, torn, files)
            elif isinstance(node, File):
                files[path] = _content(node, kept, torn)

    def _with_causes(self, kept: Iterable[Change]) -> set[Change]:
        """These, and what must have been before: a file is renamed from a name that it had, and a
        folder that is taken away was empty."""
        whole = set(kept)
        for place in reversed(range(len(self.pending_names))):
            change = self.pending_names[place]
            if change in whole:
                whole |= {old for old in self.pending_names[:place] if _must_precede(old, change)}
        return whole

    def _change(self, change: Write | Resize) -> None:
        if isinstance(change, Write) and any(
            isinstance(old, Write) and old.doomed for old in change.file.pending
        ):
            _redeem(change)
        change.file.pending.append(change)
        self._dirty[change.file] = None

    def _sync(self, call: Call) -> None:
        if call.at:  # a folder
            folder = self._node(call.path)
            assert isinstance(folder, Folder)
            mine = [
                one for one in self.pending_names if any(at is folder for at, _, _ in one.names)
            ]
            entered = self._with_causes(mine)
            for names in self.pending_names:
                if names in entered:
                    _enter(names)
            self.pending_names = [one for one in self.pending_names if one not in entered]
            return
        file = self._file(call)
        doomed = [one for one in file.pending if isinstance(one, Write) and one.doomed]
        content = bytearray(file.durable)
        for change in file.pending:
            if change not in doomed:
                _apply(content, change)
        file.durable, file.pending = bytes(content), list(doomed)
        if not doomed:
            self._dirty.pop(file, None)

    def _name(self, *pairs: tuple[str, Node | None], emptied: Folder | None = None) -> None:
        names: list[tuple[Folder, str, Node | None]] = []
        for path, node in pairs:
            folder, name = self._parent(path)
            if node is None:
                folder.now.pop(name, None)
            else:
                folder.now[name] = node
            names.append((folder, name, node))
        self.pending_names.append(Entries(self._next(), tuple(names), emptied))

    def _parent(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self.root
        for part in above:
            node = folder.now.get(part)
            if not isinstance(node, Folder):
                raise Unbelievable(f"{path}: {part} is no folder")
            folder = node
        return folder, name

    def _node(self, path: str) -> Node:
        if not path:
            return self.root
        folder, name = self._parent(path)
        if name not in folder.now:
            raise Unbelievable(f"{path} was never made")
        return folder.now[name]

    def _file(self, call: Call) -> File:
        """By inode: a descriptor outlives its name. A file from before is met by its name first."""
        file = self._by_inode.get(call.inode)
        if file is None:
            node = self._node(call.path)
            if not isinstance(node, File):
                raise Unbelievable(f"{call.path} is no file")
            file = self._by_inode[call.inode] = node
        return file

    def _next(self) -> int:
        self._number += 1
        return self._number


def _must_precede(old: Entries, new: Entries) -> bool:
    if new.emptied is not None:
        return any(folder is new.emptied for folder, _, _ in old.names)
    return len(new.names) > 1 and any(one[:2] == new.names[0][:2] for one in old.names)


def _doomed(change: Write | Resize) -> Iterator[Write | Resize]:
    """A write as pages, each of which is on the disk or not, and will not be written again."""
    if isinstance(change, Resize):
        yield change
        return
    at, end = change.at, change.at + len(change.data)
    while at < end:
        border = min(end, (at // PAGE + 1) * PAGE)
        piece = change.data[at - change.at : border - change.at]
        yield Write(change.number, change.file, at, piece, doomed=True)
        at = border


def _redeem(new: Write) -> None:
    """A write makes the pages that it touches dirty again, with all that is in them."""
    first, last = new.at // PAGE, (new.at + len(new.data) - 1) // PAGE
    for old in new.file.pending:
        if isinstance(old, Write) and old.doomed and first <= old.at // PAGE <= last:
            old.doomed = False


def _enter(change: Entries) -> None:
    for folder, name, node in change.names:
        if node is None:
            folder.durable.pop(name, None)
        else:
            folder.durable[name] = node


def _apply(content: bytearray, change: Write | Resize, length: int | None = None) -> None:
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    data = change.data if length is None else change.data[:length]
    if data:
        content.extend(bytes(max(0, change.at - len(content))))
        content[change.at : change.at + len(data)] = data


def _content(file: File, kept: Collection[Change], torn: Mapping[Write, int]) -> bytes:
    if not file.pending:
        return file.durable
    content = bytearray(file.durable)
    for change in file.pending:
        if change in kept:
            _apply(content, change, torn.get(change) if isinstance(change, Write) else None)
    return bytes(content)


# Which states to look at


ALONE: Final = 6
"""Of the pending changes the last so many are each dropped alone, and each kept alone."""
PREFIXES: Final = 8
"""So many are cuts between two changes that reached the disk in order."""
RANDOM: Final = 4


def states_of(disk: Disk, chance: random.Random) -> Iterator[State]:
    """What a power cut at this moment may leave: some of the 2^n states, the telling ones first."""
    pending = disk.pending()
    yield disk.state((), "nothing unsynced survives")
    if not pending:
        return
    everything = set(pending)
    yield disk.state(everything, "all of it survives")
    data = {change for change in pending if change.is_data}
    if data and data != everything:
        yield disk.state(everything - data, "names survive, bytes do not")
        yield disk.state(data, "bytes survive, names do not")
    for change in pending[-ALONE:]:
        yield disk.state(everything - {change}, f"all but {describe(disk, change)}")
        yield disk.state({change}, f"only {describe(disk, change)}")
    last = next((one for one in reversed(pending) if isinstance(one, Write)), None)
    if last is not None and len(last.data) > SECTOR:
        length = _torn(last, chance)
        yield disk.state(everything, f"all, the last write torn after {length}", {last: length})
    ends = range(1, len(pending))
    for end in sorted(chance.sample(ends, min(PREFIXES, len(ends)))):
        yield disk.state(set(pending[:end]), f"the first {end} of {len(pending)}")
    for _ in range(RANDOM if len(pending) > 2 else 0):
        kept = [one for one in pending if chance.random() < 0.5]
        torn = {
            one: _torn(one, chance)
            for one in kept
            if isinstance(one, Write) and len(one.data) > SECTOR and chance.random() < 0.25
        }
        numbers = " ".join(str(one.number) for one in kept)
        yield disk.state(kept, f"at random, {numbers}", torn)


def _torn(write: Write, chance: random.Random) -> int:
    """How many bytes of a write are there: up to the border of a sector."""
    first = SECTOR - write.at % SECTOR
    return chance.randrange(first, len(write.data), SECTOR) if first < len(write.data) else 0


def describe(disk: Disk, change: Change) -> str:
    """A change in the words of a complaint."""
    if isinstance(change, Entries):
        return "name " + ", ".join(
            f"{name} {'gone' if node is None else 'there'}" for _, name, node in change.names
        )
    assert isinstance(change, Write | Resize)
    name = name_of(disk, change.file)
    if isinstance(change, Resize):
        return f"length {change.size} of {name}"
    return f"{len(change.data)} bytes at {change.at} of {name}"


def name_of(disk: Disk, file: File) -> str:
    """The name by which a program finds the file now."""

    def search(folder: Folder, prefix: str) -> str | None:
        for name, node in folder.now.items():
            if node is file:
                return f"{prefix}{name}"
            if isinstance(node, Folder):
                found = search(node, f"{prefix}{name}/")
                if found is not None:
                    return found
        return None

    return search(disk.root, "") or "a file without a name"


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a recording: after this many calls, with what may be left then."""

    after: int
    states: Sequence[State]


def crash_points(
    recording: Recording, *, seed: str, wanted: Collection[int] | None = None
) -> Iterator[Point]:
    """Every moment of a recording at which a power cut may leave something else than before.

    States that are alike at one moment are one; so is the same state at two moments between which
    nothing was promised. `wanted` names the moments to look at; None is all of them.
    """
    disk = Disk(recording.before)
    seen: set[int] = set()
    for after, call in enumerate(itertools.chain((None,), recording.calls)):
        if call is not None:
            disk.do(call)
            if call.op is Op.MARK:
                seen.clear()
        if wanted is not None and after not in wanted:
            continue
        new: list[State] = []
        for state in states_of(disk, random.Random(f"{seed}:{after}")):
            digest = state.digest
            if digest not in seen:
                seen.add(digest)
                new.append(state)
        if new:
            yield Point(after, new)


def assert_believable(recording: Recording, folder: Path, now: Mapping[str, bytes | None]) -> None:
    """Fail unless the recording leads to what is on disk, so that no call went unseen.

    Raises:
        Unbelievable: it does not.
    """
    disk = Disk(recording.before)
    for call in recording.calls:
        disk.do(call)
    left = disk.state(set(disk.pending()), "").files
    if left != now:
        different = sorted(
            path for path in left.keys() | now.keys() if left.get(path, b"?") != now.get(path, b"?")
        )
        raise Unbelievable(f"{folder}: recorded otherwise than it is: {', '.join(different)}")


def moments(recording: Recording) -> list[int]:
    """The moments that tell most: before each sync, when most is pending, and after each promise.

    Between two of them changes only add up; a cut there leaves what a cut before the sync leaves
    where only the first of the pending changes reached the disk.
    """
    calls = recording.calls
    before = {number for number, call in enumerate(calls) if call.op is Op.SYNC}
    after = {number + 1 for number, call in enumerate(calls) if call.op is Op.MARK}
    return sorted(before | after | {0, len(calls)})


def from_afar(moments: Sequence[int], stride: int = 8) -> list[list[int]]:
    """The same moments in rounds: a few over the whole recording first."""
    return [list(moments[first::stride]) for first in reversed(range(stride))]
