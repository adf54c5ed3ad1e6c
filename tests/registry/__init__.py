"""Tests of the registry: `contract` for any store, the rest for what is built on it."""

import pytest

# Its asserts should say as much as those of a test module.
pytest.register_assert_rewrite("tests.registry.contract")
