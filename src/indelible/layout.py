"""What lies in a data folder, by name. Files that are made from the journal name themselves."""

from typing import Final

JOURNAL_FILE: Final = "journal.db"
LOCK_FILE: Final = "lock.db"
KEYS_FOLDER: Final = "keys"
LEDGER_FOLDER: Final = "ledger"
CLI_FILE: Final = "cli.json"
FIRST_KEYS_FILE: Final = "first-keys.json"
RESERVE_FILE: Final = "reserve"
