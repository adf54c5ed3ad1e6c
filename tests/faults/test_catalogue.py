"""The catalogue of faults fits the code and the tests as they are."""

import ast

import pytest

from tests.faults.catalogue import FAULTS, ROOT, Fault


def test_there_are_seventy_faults_and_no_two_alike() -> None:
    assert 70 <= len(FAULTS) == len({(fault.path, fault.before, fault.after) for fault in FAULTS})


@pytest.mark.parametrize("fault", FAULTS, ids=range(1, len(FAULTS) + 1))
def test_a_fault_can_be_put_in(fault: Fault) -> None:
    sound = (ROOT / fault.path).read_text("utf-8")

    assert 1 == sound.count(fault.before), fault.meaning
    ast.parse(sound.replace(fault.before, fault.after))  # what cannot be read is noticed anyhow


@pytest.mark.parametrize("fault", FAULTS, ids=range(1, len(FAULTS) + 1))
def test_the_tests_that_should_notice_a_fault_are_there(fault: Fault) -> None:
    assert fault.tests
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert not name or f"def {name}(" in (ROOT / path).read_text("utf-8"), test
        assert (ROOT / path).exists(), test
