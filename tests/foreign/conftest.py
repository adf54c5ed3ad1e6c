"""The guides and the programs made of them, once a run."""

import pytest

from tests.foreign import documents, programs
from tests.foreign.delivery import Program
from tests.foreign.needs import needed


@pytest.fixture(scope="session")
def vtilt_go_guide() -> str:
    with needed():
        return documents.find(documents.VTILT_GO, documents.folder())


@pytest.fixture(scope="session")
def vtilt_rust_guide() -> str:
    with needed():
        return documents.find(documents.VTILT_RUST, documents.folder())


@pytest.fixture(scope="session")
def immutablelog_go_guide() -> str:
    with needed():
        return documents.find(documents.IMMUTABLELOG_GO, documents.folder())


@pytest.fixture(scope="session")
def vtilt_go(vtilt_go_guide: str, tmp_path_factory: pytest.TempPathFactory) -> Program:
    with needed():
        return Program(programs.vtilt_go(vtilt_go_guide, tmp_path_factory.mktemp("vtilt-go")))


@pytest.fixture(scope="session")
def vtilt_rust(vtilt_rust_guide: str, tmp_path_factory: pytest.TempPathFactory) -> Program:
    with needed():
        return Program(programs.vtilt_rust(vtilt_rust_guide, tmp_path_factory.mktemp("vtilt-rust")))


@pytest.fixture(scope="session")
def immutablelog_go(
    immutablelog_go_guide: str, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    folder = tmp_path_factory.mktemp("immutablelog-go")
    with needed():
        return Program(programs.immutablelog_go(immutablelog_go_guide, folder))


@pytest.fixture(scope="session")
def immutablelog_go_with_a_stopped_clock(
    immutablelog_go_guide: str, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    folder = tmp_path_factory.mktemp("immutablelog-go-stopped")
    with needed():
        path = programs.immutablelog_go(immutablelog_go_guide, folder, stopped_clock=True)
        return Program(path)
