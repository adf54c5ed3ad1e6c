"""Evidence: one log as it stands, in one tar, with all that a stranger needs to check it.

    evidence-<log>/README.txt           what this is, and how to check it
    evidence-<log>/log.vkey             the public key of the log
    evidence-<log>/verify.go, go.mod, go.sum    a checker that shares no line with ours
    evidence-<log>/log/                 the log as C2SP tlog-tiles has it:
        checkpoint                      the newest one, verbatim
        witnessed                       the newest that met the policy's quorum, if there is one
        policy                          the witnesses that the log proposes to its readers
        tile/…                          exactly the tiles and bundles that the checkpoint demands

The same log at the same checkpoint gives the same bytes. It may be taken while a server writes: the
checkpoint is read first, every tile that it demands was in place before it, and no tile changes.
Nothing in it was not public to the log's readers before: no payload, no salt, no private key.
"""

import base64
import io
import tarfile
from importlib.resources import files
from typing import IO, Final, NamedTuple

from indelible.errors import LogUnreadable
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.note import LogKey, open_note
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.tile import tiles_between
from indelible.ledger.tilestore import TileStore

VKEY: Final = "log.vkey"
STRANGER: Final = ("go.mod", "go.sum", "verify.go")
"""The checker, in the package's folder `stranger`: `go run .` beside the log's files."""

_SINCE: Final = 946_684_800  # 2000-01-01: a time is demanded, and any of ours would not repeat


class Packed(NamedTuple):
    """What went into a tar: a log of `size` events under `root`, and the number of its tiles."""

    origin: str
    size: int
    root: bytes
    vkey: str
    tiles: int
    witnessed: bool


def pack(tiles: TileStore, log: str, into: IO[bytes]) -> Packed:
    """Write the tar of the log called `log`.

    The checkpoint's signature is checked, so that the right key is in it; its tiles are copied as
    they are. Whether they fit is for whoever unpacks it to say.

    Raises:
        LogUnreadable: it has no checkpoint, or no policy that names its key.
        Tampered, Unverifiable: the checkpoint is not signed by that key, or a tile is missing.
    """
    # Before the checkpoint: so it is the older of the two whatever a server does meanwhile.
    witnessed = tiles.published(WITNESSED)
    note, policy = tiles.published(CHECKPOINT), tiles.published(POLICY)
    if note is None or policy is None:
        missing = CHECKPOINT if note is None else POLICY
        raise LogUnreadable(f"There is no file {missing!r}, so nothing of this log can be checked")
    key, checkpoint = _opened(note, policy)
    count = 0
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        top = f"evidence-{log}"
        _add(tar, f"{top}/README.txt", _readme(key, checkpoint).encode())
        _add(tar, f"{top}/{VKEY}", f"{key.text}\n".encode())
        for name in STRANGER:
            _add(tar, f"{top}/{name}", (files(__package__) / "stranger" / name).read_bytes())
        for name, text in ((CHECKPOINT, note), (WITNESSED, witnessed), (POLICY, policy)):
            if text is not None:
                _add(tar, f"{top}/log/{name}", text.encode())
        for tile in tiles_between(0, checkpoint.size):
            (content,) = tiles.read([tile])
            _add(tar, f"{top}/log/{tile.path}", content)
            count += 1
    return Packed(
        checkpoint.origin, checkpoint.size, checkpoint.root, key.text, count, witnessed is not None
    )


def _opened(note: str, policy: str) -> tuple[LogKey, Checkpoint]:
    """The key that signed a checkpoint, and the checkpoint."""
    keys = [log.key for log in parse_policy(policy).logs]
    opened = open_note(note, keys)
    signer = opened.signatures[0]
    key = next(key for key in keys if (key.name, key.key_id) == (signer.name, signer.key_id))
    checkpoint = Checkpoint.parse(opened.text)
    if checkpoint.origin != key.name:
        raise LogUnreadable(f"The checkpoint of {checkpoint.origin} is signed by {key.name}")
    return key, checkpoint


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mtime = _SINCE
    tar.addfile(member, io.BytesIO(content))


def _readme(key: LogKey, checkpoint: Checkpoint) -> str:
    return _README.format(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=base64.b64encode(checkpoint.root).decode(),
        vkey=key.text,
    )


_README: Final = """\
A transparency log, with all that is needed to check it
=======================================================

origin   {origin}
entries  {size}
root     {root}
key      {vkey}

The files are in the open formats of C2SP (c2sp.org): signed-note, tlog-checkpoint, tlog-tiles.

    log.vkey          the key of the log
    log/checkpoint    how many entries there are and the root of the tree over them, signed
    log/witnessed     the same, signed by enough witnesses too (only if the log has witnesses)
    log/policy        the keys of the log and of its witnesses, and how many of them are enough
    log/tile/entries  the entries, 256 to a file, each behind its length in two bytes
    log/tile/0, ...   the hashes of the tree, 256 to a file

Check it
--------

With Go, and no code of those who wrote the log:

    go run . '{vkey}'

verify.go is short; read it. With golang.org/x/mod/sumdb/note and tlog alone (go.sum pins them) it
checks the signature, every entry, every hash and the inclusion of every entry. It exits 0 and says
"verified", or 1 and names what is wrong. It does not look at the signatures of witnesses.

With Indelible, which checks those of the witnesses too:

    indelible audit log --policy log/policy

With tlog-scales, a single entry (here the first); it does not look at any signature:

    tlog-tiles get-leaf -c ./log 0

What it shows, and what it does not
-----------------------------------

The key above came with the log. It proves something only if it is the one that you, or somebody you
trust, were given before: compare it. A signed root shows that none of the entries was changed, put
in, taken out or moved since that root was signed. That it is the newest root, and the same one that
others were shown, only a root that you kept earlier or the witnesses can tell.

An entry has 96 bytes: version 1, a kind (1 product, 2 audit, 3 erasure, 4 administration, 5 loss),
six zeros, the time of receipt in milliseconds (8 bytes), the transaction id (16 bytes), and salted
commitments to the payload and to the record (32 bytes each). There is no payload here, and without
its salt a commitment tells nothing of it. A receipt (.tlog-proof) opens the entry of one event.
"""
