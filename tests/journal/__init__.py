"""Tests of the journal: `contract` for any implementation, `rig` for the one in SQLite."""

import pytest

# Its asserts should say as much as those of a test module.
pytest.register_assert_rewrite("tests.journal.contract")
