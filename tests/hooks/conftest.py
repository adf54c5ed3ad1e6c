"""The contract of web frameworks is a module of tests: its assertions explain themselves too."""

import pytest

pytest.register_assert_rewrite("tests.hooks.contract")
