"""The registry's tests use the journal's bench."""

from tests.journal.conftest import make_rig_of, sqlite

__all__ = ["make_rig_of", "sqlite"]
