"""Which story shows that a sync is needed, and by which promise; and so of the order of steps, and
of what is no longer believed after a sync that failed."""

from typing import Final, NamedTuple

from tests.power import promises
from tests.power.removals import Fault


class Row(NamedTuple):
    """Without the sync, a power cut in this story breaks this promise."""

    story: str
    promise: str


SYNCS: Final = {
    "app/storing.py Storing.__init__: keep_folder(settings.data_dir, mode=448)": Row(
        "start", promises.STORED
    ),
    "cli/backup.py copy: _sync(draft)": Row("backup", promises.BACKUP),
    "cli/backup.py copy: sync_folder(target.parent)": Row("backup", promises.BACKUP),
    "cli/backup.py _sync: os.fsync(file.fileno())": Row("backup", promises.BACKUP),
    "cli/output.py written: new_file(path)": Row("output", promises.OUTPUT),
    "cli/restore.py restore: keep_folder(folder, mode=448)": Row(
        "restore-afresh", promises.RESTORED
    ),
    "cli/restore.py restore: sync_folder(folder)": Row("restore", promises.REPEATED),
    "cli/restore.py restore: sync_folder(folder) (2)": Row("restore", promises.RESTORED),
    "client/shelf.py Shelf._write_down: "
    "batch.file.append(data, sync=self._wire.lane == Lane.AUDIT)": Row("spool", promises.SAFE),
    "client/spool.py Spool.__init__: _keep_folder(folder)": Row("spool", promises.SAFE),
    "client/spool.py Spool.__init__: _sync_folder(folder)": Row("spool", promises.SAFE),
    "client/spool.py Spool._aside: _sync_folder(self.folder)": Row("spool", promises.SAFE),
    "client/spool.py _sync_folder: os.fsync(descriptor)": Row("spool", promises.SAFE),
    "client/spool.py SpoolFile._enter: _sync_folder(self.path.parent)": Row("spool", promises.SAFE),
    "client/spool.py Spool.refuse: file.append(records, sync=True)": Row("spool", promises.SAFE),
    "client/spool.py _keep_folder: _sync_folder(one.parent)": Row("spool-killed", promises.SAFE),
    "client/spool.py SpoolFile.append: os.fsync(self._file.fileno())": Row("spool", promises.SAFE),
    "derived.py Derived._prepared: 'PRAGMA synchronous = NORMAL'": Row(
        "first-start", promises.INTACT
    ),
    "durable.py new_file: sync_folder(path.parent)": Row("output", promises.OUTPUT),
    "durable.py sync_folder: sync_file(folder)": Row("first-start", promises.KEYS),
    "durable.py sync_file: _sync(handle, path)": Row("first-start", promises.KEYS),
    "durable.py sync_folders: sync_folder(folder)": Row("border", promises.READERS),
    "durable.py _sync: os.fsync(handle)": Row("first-start", promises.KEYS),
    "durable.py write_file: _sync(handle, draft)": Row("border", promises.READERS),
    "durable.py new_file: _sync(file.fileno(), draft)": Row("output", promises.OUTPUT),
    "durable.py keep_folder: sync_folder(one.parent)": Row(
        "killed-at-data-folder", promises.FORWARD
    ),
    # What is lost is sealed by then: the server refuses to go on with a journal that is too short.
    "journal/database.py Database.__init__: 'PRAGMA synchronous = FULL'": Row(
        "border", promises.STARTS
    ),
    "journal/database.py Database._sweep_once: "
    "self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_T...": Row("erasure", promises.ERASED),
    "journal/database.py Database._sweep_once: "
    "sync_file(self.path.with_name(f'{self.path.name}-wal'))": Row("erasure", promises.ERASED),
    "ledger/lockstore.py LockStore.__init__: 'PRAGMA synchronous = FULL'": Row(
        "border", promises.STARTS
    ),
    "ledger/logs.py _write_key: durable.sync_folder(path.parent)": Row(
        "killed-at-key", promises.STARTS
    ),
    "ledger/logs.py _write_key: durable.sync_folder(path.parent.parent)": Row(
        "start", promises.STARTS
    ),
    "ledger/logs.py _write_key: durable.write_file(path, f'{signer.text}\\n'.encode(), mod...": Row(
        "first-start", promises.STARTS
    ),
    "ledger/audit/memory.py Memory.keep: keep_folder(self._folder, mode=448)": Row(
        "output", promises.REMEMBERED
    ),
    "ledger/audit/memory.py Memory.keep: new_file(path)": Row("output", promises.REMEMBERED),
    "ledger/restore.py retire_keys: durable.sync_folder(key.parent)": Row(
        "restore", promises.RETIRED
    ),
    "ledger/tilestore.py FolderTiles.write: durable.sync_folders(touched)": Row(
        "border", promises.READERS
    ),
    "ledger/tilestore.py FolderTiles._keep: durable.sync_folder(above)": Row(
        "start", promises.READERS
    ),
    "ledger/tilestore.py FolderTiles.publish: "
    "durable.write_file(f'{self._root}/{name}', note.encode())": Row("border", promises.FORWARD),
    "ledger/tilestore.py FolderTiles.publish: durable.sync_folder(self._root)": Row(
        "border", promises.FORWARD
    ),
    "ledger/tilestore.py FolderTiles.write: durable.write_file(path, content)": Row(
        "border", promises.READERS
    ),
    "ledger/tilestore.py FolderTiles.replace: durable.write_file(path, content)": Row(
        "mended", promises.READERS
    ),
    "ledger/tilestore.py FolderTiles.replace: durable.sync_folders(touched)": Row(
        "mended", promises.READERS
    ),
    "ledger/witness/store.py create: durable.keep_folder(folder, mode=448)": Row(
        "witness", promises.WITNESS
    ),
    "ledger/witness/store.py create: "
    "durable.write_file(folder / KEY_FILE, f'{cosigner.text}\\n...": Row(
        "witness", promises.WITNESS
    ),
    "ledger/witness/store.py create: durable.sync_folder(folder)": Row("witness", promises.WITNESS),
    "ledger/witness/store.py open_database: 'PRAGMA synchronous = FULL'": Row(
        "witness", promises.COSIGNED
    ),
}

FAULTS: Final = {
    Fault(
        "a witness goes on after a sync that failed",
        "ledger/witness/rules.py",
        '            self._failure = f"{type(error).__name__}: {error}"\n',
        "            pass\n",
    ): Row("failed-sync", promises.POISONED),
    Fault(
        "the lock store goes on after a sync that failed",
        "ledger/lockstore.py",
        '                self._failure = f"{type(error).__name__}: {error}"\n'
        "                raise LockUnwritable(self._failure) from error\n",
        "                raise OSError(errno.EAGAIN, str(error)) from error\n",
    ): Row("failed-sync", promises.POISONED),
    Fault(
        "the journal goes on after a sync that failed",
        "journal/database.py",
        "                if not isinstance(error, _PASSING):\n",
        "                if False:\n",
    ): Row("failed-sync", promises.POISONED),
    Fault(
        "a file is renamed before it is synced",
        "durable.py",
        "            _sync(handle, draft)\n        finally:\n            os.close(handle)\n"
        "        os.replace(draft, path)  # noqa: PTH105\n",
        "            os.replace(draft, path)\n            _sync(handle, draft)\n"
        "        finally:\n            os.close(handle)\n",
    ): Row("start", promises.STARTS),
    Fault(
        "a backup gets its name before it is synced",
        "cli/backup.py",
        "        _sync(draft)\n        try:\n",
        "        try:\n",
    ): Row("backup", promises.BACKUP),
    Fault(
        "a checkpoint is published before the lock store has it",
        "ledger/sealer.py",
        "        refused = self._lock.advance_all(",
        "        for seal in signed:\n"
        "            self._publish(seal.log, seal.new)\n"
        "        refused = self._lock.advance_all(",
    ): Row("border", promises.STARTS),
    Fault(
        "tiles are written after the lock store has their checkpoint",
        "ledger/tilestore.py",
        "        # power lost here: some tiles are there and some are not,"
        " and no checkpoint covers them\n"
        "        durable.sync_folders(touched)\n",
        "        import threading\n"
        "        threading.Timer(0.05, durable.sync_folders, (touched,)).start()\n",
    ): Row("border", promises.READERS),
    Fault(
        "a log is open before its key is on disk",
        "ledger/logs.py",
        "        _write_key(self._key_path(row.name), signer)\n"
        "        root = Checkpoint(signer.key.name, 0, EMPTY_ROOT)\n",
        "        self._registry.logs.open(row.name)\n"
        "        _write_key(self._key_path(row.name), signer)\n"
        "        root = Checkpoint(signer.key.name, 0, EMPTY_ROOT)\n",
    ): Row("start", promises.STARTS),
    Fault(
        "keys are retired while the journal that needs them is in place",
        "cli/restore.py",
        "            kept = _put_aside(before)\n",
        "            retire_keys(folder, done)\n            kept = _put_aside(before)\n",
    ): Row("restore", promises.REPEATED),
    Fault(
        "an erasure is answered without a sweep",
        "journal/sqlite.py",
        "return Erased(tuple(entries), erased, len(wanted) - erased, self.database.sweep())",
        "return Erased(tuple(entries), erased, len(wanted) - erased, True)",
    ): Row("erasure", promises.ERASED),
    Fault(
        "what a dead process left is forgotten once it is found",
        "client/spool.py",
        "                yield mine\n",
        "                mine.unlink()\n                yield mine\n",
    ): Row("spool", promises.SAFE),
}
