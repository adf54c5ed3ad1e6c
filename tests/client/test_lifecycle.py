"""However a process ends, what it captured arrives, once: real processes, signals and forks."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indelible.testing import InMemoryServer
from tests.client.program import BEGINNING, PATIENT, Program, address, arrived, run
from tests.foreign import programs
from tests.foreign.needs import needed
from tests.world import ServerProcess, a_free_port, client_environment

# The end of a process.


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as running:
        yield running


def test_a_process_that_ends_has_delivered_everything(
    server: InMemoryServer, tmp_path: Path
) -> None:
    run("ticks(1000)", server, tmp_path)

    assert {"tick": 1000} == arrived(server)
    assert list(range(1000)) == [event.properties["place"] for event in server.product]
    assert list(range(1000)) == [event.body["sequence"] for event in server.product]


def test_the_audit_events_of_a_process_that_ends_have_left_the_spool(
    server: InMemoryServer, tmp_path: Path
) -> None:
    run(
        "for place in range(1000): client.audit.send_async('row.read', {'place': place})",
        server,
        tmp_path,
    )

    assert {"row.read": 1000} == arrived(server)
    assert [] == list((tmp_path / "spool" / "audit").iterdir())


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("raise LookupError('nobody catches this')", 1),
        ("sys.exit(7)", 7),
        ("raise KeyboardInterrupt", -2),
    ],
)
def test_an_exception_that_ends_the_process_costs_nothing(
    server: InMemoryServer, tmp_path: Path, end: str, code: int
) -> None:
    run(f"ticks(1000)\n{end}", server, tmp_path, code=code)

    assert {"tick": 1000} == arrived(server)


def test_a_thread_that_exits_ends_nothing_but_itself(
    server: InMemoryServer, tmp_path: Path
) -> None:
    run(
        """
def work():
    ticks(500)
    sys.exit(3)

thread = threading.Thread(target=work)
thread.start()
thread.join()
ticks(500)
""",
        server,
        tmp_path,
    )

    assert {"tick": 1000} == arrived(server)


def test_a_client_that_the_application_let_go_of_delivers_all_the_same(
    server: InMemoryServer, tmp_path: Path
) -> None:
    run("ticks(1000); del client; import gc; gc.collect()", server, tmp_path)

    assert {"tick": 1000} == arrived(server)


def test_handlers_of_atexit_may_capture_before_and_after_the_clients_own(
    server: InMemoryServer, tmp_path: Path
) -> None:
    text = BEGINNING.replace(
        f"client = {PATIENT}",
        "atexit.register(ticks, 10, 'registered before')\n"
        f"client = {PATIENT}\n"
        "atexit.register(ticks, 10, 'registered after')\n",
    )
    with Program(text + "ticks(10)", tmp_path, **address(server)) as program:
        assert (0, "") == program.end()

    assert {"tick": 10, "registered before": 10, "registered after": 10} == arrived(server)


def test_a_process_that_first_captures_in_atexit_delivers_too(
    server: InMemoryServer, tmp_path: Path
) -> None:
    # From Python 3.12 on no thread can be started this late.
    text = BEGINNING.replace("client =", "atexit.register(ticks, 10)\nclient =")
    with Program(text, tmp_path, **address(server)) as program:
        assert (0, "") == program.end()

    assert {"tick": 10} == arrived(server)


def test_a_daemon_thread_may_capture_while_the_interpreter_ends(
    server: InMemoryServer, tmp_path: Path
) -> None:
    said = run(
        """
captured = 0
enough = threading.Event()

def work():
    global captured
    while True:
        client.capture("tick")
        captured += 1
        if captured == 1000:
            enough.set()
        time.sleep(0)

threading.Thread(target=work, daemon=True).start()
enough.wait()
""",
        server,
        tmp_path,
    )

    assert "" == said
    assert 1000 <= arrived(server)["tick"]


def test_the_tasks_of_a_pool_that_nobody_waits_for_are_delivered(
    server: InMemoryServer, tmp_path: Path
) -> None:
    run(
        """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(8)
for _ in range(20):
    pool.submit(ticks, 50)
""",
        server,
        tmp_path,
    )

    assert {"tick": 1000} == arrived(server)


@pytest.mark.clocked
def test_a_server_that_stalls_delays_the_end_no_longer_than_was_allowed(tmp_path: Path) -> None:
    with _a_server_that_never_answers() as url:
        text = BEGINNING.replace(PATIENT, "Indelible(exit_s=0.3)")
        text += "client.audit.send_async('row.read', 'x')\nticks(100)\nready()"
        with Program(text, tmp_path, **_keys(url)) as program:
            program.wait_until_ready()
            began = time.monotonic()
            code, _ = program.end()
            took_s = time.monotonic() - began

    assert 0 == code
    assert took_s < 1.5
    assert 1 == len(list((tmp_path / "spool" / "audit").glob("*/*.batch")))


# SIGTERM.

WAIT = "ready()\nsys.stdin.readline()\nprint('went on')\n"


@pytest.mark.parametrize(
    ("before", "code", "last"),
    [
        pytest.param("", -15, "", id="nothing"),
        pytest.param("signal.signal(signal.SIGTERM, signal.SIG_DFL)", -15, "", id="SIG_DFL"),
        pytest.param(
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))", 3, "", id="SystemExit"
        ),
        pytest.param(
            "signal.signal(signal.SIGTERM, lambda *_: print('theirs', flush=True))",
            0,
            "theirs\nwent on\n",
            id="a handler that returns",
        ),
        pytest.param("signal.signal(signal.SIGTERM, signal.SIG_IGN)", 0, "went on\n", id="SIG_IGN"),
    ],
)
def test_sigterm_delivers_and_then_does_what_it_did_before(
    server: InMemoryServer, tmp_path: Path, before: str, code: int, last: str
) -> None:
    text = f"{BEGINNING}\n{before}\nclient.install_signal_handlers()\nticks(1000)\n{WAIT}"
    with Program(text, tmp_path, INDELIBLE_ENABLED="1", **address(server)) as program:
        program.wait_until_ready()
        program.terminate()
        server.wait_for(1000, timeout_s=60)
        if code == 0:
            program.say("")
        assert (code, last) == program.end()

    assert {"tick": 1000} == arrived(server)


def test_two_handlers_that_were_set_in_turns_both_run_and_end(
    server: InMemoryServer, tmp_path: Path
) -> None:
    text = f"""{BEGINNING}
client.install_signal_handlers()
ours = signal.getsignal(signal.SIGTERM)
def theirs(number, frame):
    print("theirs", flush=True)
    ours(number, frame)
signal.signal(signal.SIGTERM, theirs)
client.install_signal_handlers()
ticks(1000)
{WAIT}"""
    with Program(text, tmp_path, **address(server)) as program:
        program.wait_until_ready()
        program.terminate()
        assert (-15, "theirs\n") == program.end()

    assert {"tick": 1000} == arrived(server)


@pytest.mark.clocked
def test_after_a_sigterm_that_the_process_outlives_capture_waits_for_nobody(
    tmp_path: Path,
) -> None:
    text = f"""{BEGINNING.replace(PATIENT, "Indelible(exit_s=0.2)")}
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("theirs"))
client.install_signal_handlers()
ticks(10)
ready()
while not told:  # a blocking read might begin just behind the signal, and never hear of it
    time.sleep(0.01)
began = time.perf_counter()
ticks(200)
print(time.perf_counter() - began, flush=True)
os._exit(0)
"""
    with _a_server_that_never_answers() as url, Program(text, tmp_path, **_keys(url)) as program:
        program.wait_until_ready()
        program.terminate()
        assert float(program.line()) < 1.0


def test_no_handler_is_set_outside_the_main_thread(server: InMemoryServer, tmp_path: Path) -> None:
    said = run(
        """
thread = threading.Thread(target=lambda: print(client.install_signal_handlers()))
thread.start()
thread.join()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
""",
        server,
        tmp_path,
    )

    assert "False\nTrue\n" == said


@pytest.mark.parametrize("door", ["client", "client.audit"])
def test_a_signal_handler_may_capture_in_the_middle_of_a_capture(
    server: InMemoryServer, tmp_path: Path, door: str
) -> None:
    said = run(
        f"""
capture = (lambda: client.capture("tick")) if {door!r} == "client" else (
    lambda: client.audit.send_async("tick", {{}}))
captured = signals = 0
def on_alarm(number, frame):
    global signals
    signals += 1
    capture()

signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0002)
while signals < 200:
    capture()
    captured += 1
signal.setitimer(signal.ITIMER_REAL, 0)
flushed = client.flush(20)
counts = {door}.counts()
lost = sum(counts.lost.values())
print(flushed, counts.waiting, captured + signals - counts.captured, counts.delivered)
assert counts.captured == counts.delivered + lost
""",
        server,
        tmp_path,
    )

    assert said.startswith(f"True 0 0 {arrived(server)['tick']}\n")


# Forks.


@pytest.mark.parametrize("end", ["sys.exit()", "client.flush(60); os._exit(0)"])
def test_a_forked_child_delivers_its_own_and_nothing_of_its_parents(
    server: InMemoryServer, tmp_path: Path, end: str
) -> None:
    # The parent's wait for company until it is killed: whatever arrives of them, the child sent.
    text = BEGINNING.replace(PATIENT, "Indelible(batch_s=3600, exit_s=30)")
    text += f"""
ticks(50, "parent")
if not os.fork():
    ticks(100, "child")
    {end}
os.wait()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with Program(text, tmp_path, **address(server)) as program:
        assert -9 == program.end()[0]

    assert {"child": 100} == arrived(server)


def test_a_fork_costs_the_parent_nothing(server: InMemoryServer, tmp_path: Path) -> None:
    run(
        """
for _ in range(3):
    ticks(100, "parent")
    client.audit.send_async("parent.audit", {})
    if not os.fork():
        ticks(100, "child")
        client.audit.send_async("child.audit", {})
        print(client.counts().captured, client.audit.counts().captured, flush=True)
        sys.exit()
    os.wait()
""",
        server,
        tmp_path,
    )

    assert {"parent": 300, "child": 300, "parent.audit": 3, "child.audit": 3} == arrived(server)
    processes = {event.body["process_id"] for event in server.product}
    assert 4 == len(processes)


def test_the_worker_imports_nothing_that_a_fork_could_cut_in_half(
    server: InMemoryServer, tmp_path: Path
) -> None:
    said = run(
        """
before = set(sys.modules)
ticks(200)
client.audit.send_async("row.read", {"text": "x" * 2000})
client.flush(60)
print(sorted(set(sys.modules) - before))
""",
        server,
        tmp_path,
    )

    assert "[]\n" == said


def test_a_child_of_a_child_begins_anew_too(server: InMemoryServer, tmp_path: Path) -> None:
    run(
        """
ticks(10, "parent")
if not os.fork():
    ticks(10, "child")
    if not os.fork():
        ticks(10, "grandchild")
        sys.exit()
    os.wait()
    sys.exit()
os.wait()
""",
        server,
        tmp_path,
    )

    assert {"parent": 10, "child": 10, "grandchild": 10} == arrived(server)


def test_a_child_of_a_client_that_was_shut_down_counts_and_sends_nothing(
    server: InMemoryServer, tmp_path: Path
) -> None:
    said = run(
        """
ticks(10)
client.shutdown()
if not os.fork():
    ticks(5)
    print(client.flush(), dict(client.counts().lost))
    sys.exit()
os.wait()
""",
        server,
        tmp_path,
    )

    assert "after_shutdown" in said
    assert {"tick": 10} == arrived(server)


def test_a_fork_in_the_middle_of_an_answer_leaves_the_child_free(tmp_path: Path) -> None:
    text = f"""{BEGINNING}
ticks(1)
threading.Thread(target=client.flush, daemon=True).start()
sys.stdin.readline()
time.sleep(0.1)  # the worker reads an answer that does not come
if not os.fork():
    print("free", flush=True)
    os._exit(0)
os.wait()
os._exit(0)
"""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Program(
            text, tmp_path, **_keys(f"http://127.0.0.1:{listening.getsockname()[1]}")
        ) as program,
        listening.accept()[0] as line,
    ):
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        program.say("")
        assert (0, "free\n") == program.end()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("made", ["before", "after"])
def test_a_process_of_multiprocessing_delivers_its_own(
    server: InMemoryServer, tmp_path: Path, method: str, made: str
) -> None:
    # The client may be there before multiprocessing is imported, or be made in the child alone.
    beginning = BEGINNING + "import multiprocessing\n"
    if made == "after":
        beginning = beginning.replace(f"client = {PATIENT}", "client = None")
    text = f"""{beginning}
def work(number):
    global client
    client = client or {PATIENT}
    ticks(100, f"child {{number}}")

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    if client: ticks(100, "parent")
    children = [context.Process(target=work, args=(number,)) for number in range(2)]
    for child in children: child.start()
    for child in children: child.join()
    sys.exit(sum(child.exitcode for child in children))
"""
    with Program(text, tmp_path, **address(server)) as program:
        code, said = program.end()

    assert 0 == code, said
    parents = {"parent": 100} if made == "before" else {}
    assert {**parents, "child 0": 100, "child 1": 100} == arrived(server)


def test_a_pool_of_processes_delivers(server: InMemoryServer, tmp_path: Path) -> None:
    text = f"""{BEGINNING}
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
if __name__ == "__main__":
    ticks(10, "parent")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(ticks, [100] * 10))
"""
    with Program(text, tmp_path, **address(server)) as program:
        code, said = program.end()

    assert 0 == code, said
    assert {"parent": 10, "tick": 1000} == arrived(server)


# gevent.


@pytest.mark.clocked
@pytest.mark.parametrize(
    "order",
    [
        f"patch(); import indelible; client = indelible.{PATIENT}",
        f"import indelible; patch(); client = indelible.{PATIENT}",
        f"import indelible; client = indelible.{PATIENT}; patch()",
    ],
)
def test_greenlets_deliver_and_are_never_held_up(
    server: InMemoryServer, tmp_path: Path, order: str
) -> None:
    pytest.importorskip("gevent")
    text = f"""
import warnings
warnings.simplefilter("ignore")  # gevent's, for being late: the point of the second and third
def patch():
    import gevent.monkey
    gevent.monkey.patch_all()
{order}
import gevent, time
def work():
    for _ in range(100):
        client.capture("tick")
        gevent.sleep(0)
gevent.joinall([gevent.spawn(work) for _ in range(10)])
began = time.monotonic()
gevent.sleep(0.1)  # the worker, idle or not, must let the others run
print("late" if time.monotonic() - began > 1 else "in time")
"""
    with Program(text, tmp_path, **address(server)) as program:
        assert (0, "in time\n") == program.end()

    assert {"tick": 1000} == arrived(server)


# Servers that fork.

WEB = f"""\
from indelible import Indelible

client = {PATIENT}
client.capture("master")

def application(environ, start_response):
    client.capture("request")
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_gunicorn_with_preload_delivers_what_its_workers_captured(
    server: InMemoryServer, tmp_path: Path, worker: str
) -> None:
    pytest.importorskip("gunicorn")
    command = [sys.executable, "-m", "gunicorn", "--preload", "-k", worker, "-w", "2"]
    # A worker of gunicorn's that only begins loses a SIGTERM: then its master ends it after this.
    limit = ["--graceful-timeout", "5"]
    _serve_and_stop([*command, *limit, "--bind"], server, tmp_path, "web:application")

    assert {"master": 1, "request": 100} == arrived(server)


@pytest.fixture(scope="module")
def uwsgi() -> Path:
    with needed():
        return programs.uwsgi()


@pytest.mark.foreign
@pytest.mark.timeout(400)  # the first one builds uWSGI
@pytest.mark.parametrize(
    "threads",
    [[], ["--enable-threads"], ["--enable-threads", "--py-call-uwsgi-fork-hooks"]],
    ids=" ".join,
)
def test_uwsgi_delivers_what_its_workers_captured(
    server: InMemoryServer, tmp_path: Path, uwsgi: Path, threads: list[str]
) -> None:
    stats = a_free_port()
    options = [*threads, "--master", "--die-on-term", "--processes", "2", "--need-app"]
    home = ["--virtualenv", sys.prefix, "--pythonpath", str(tmp_path), "--module", "web"]
    _serve_and_stop(
        [str(uwsgi), *options, *home, "--stats", f"127.0.0.1:{stats}", "--http-socket"],
        server,
        tmp_path,
        # One that is told to stop before it has put its answer away ends without exit handlers.
        is_idle=lambda: _are_idle(stats),
    )

    # Where the master says that its own wait for flush(), nobody asks it for that here.
    waits = "wait for flush()" in (tmp_path / "output").read_text()
    assert waits == (len(threads) < 2)
    assert {**({} if waits else {"master": 1}), "request": 100} == arrived(server)


def _are_idle(stats: int) -> bool:
    """Whether no worker of a uWSGI is in a request, as its stats server says."""
    with socket.create_connection(("127.0.0.1", stats), timeout=60) as connection:
        said = b"".join(iter(lambda: connection.recv(65_536), b""))
    return {"idle"} == {worker["status"] for worker in json.loads(said)["workers"]}


def test_celery_prefork_delivers_what_its_tasks_captured(
    server: InMemoryServer, tmp_path: Path
) -> None:
    pytest.importorskip("celery")
    queue = tmp_path / "queue"
    queue.mkdir()
    (tmp_path / "tasks.py").write_text(f"""\
from celery import Celery
from celery.signals import worker_process_shutdown
from indelible import Indelible

client = {PATIENT}
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {{
    "data_folder_in": {str(queue)!r},
    "data_folder_out": {str(queue)!r},
    "control_folder": {str(tmp_path / "control")!r},
    "polling_interval": 0.02,
}}

@app.task
def work(place):
    client.capture("task", properties={{"place": place}})

# A pool's process ends by os._exit.
worker_process_shutdown.connect(lambda **_: client.flush(30), weak=False)
""")
    env = client_environment(INDELIBLE_SPOOL_DIR=str(tmp_path / "spool"), **address(server))
    send = "from tasks import work\nfor place in range(100): work.delay(place)"
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=env, check=True, timeout=60)
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "2"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [*command, *quiet],
            cwd=tmp_path,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until(lambda: not list(queue.glob("*")), "the tasks were not taken")
        process.terminate()
        assert 0 == process.wait(60), (tmp_path / "output").read_text()
    finally:
        _end_all(process)

    assert {"task": 100} == arrived(server)


# A real server.


def test_the_log_of_a_real_server_has_each_event_once(world: ServerProcess, tmp_path: Path) -> None:
    ends = {
        "exit": "ticks(1000, 'exit')",
        "SIGTERM": "client.install_signal_handlers()\nticks(1000, 'SIGTERM')\n"
        "os.kill(os.getpid(), signal.SIGTERM)",
        "fork": "ticks(50, 'parent')\nif not os.fork():\n    ticks(100, 'child')\n    sys.exit()\n"
        "os.wait()",
    }
    for name, text in ends.items():
        with Program(BEGINNING + text, tmp_path / name, INDELIBLE_HOST=world.url) as program:
            program.end()

    arrived = Counter(event["event"] for event in world.events())
    assert {"exit": 1000, "SIGTERM": 1000, "parent": 50, "child": 100} == arrived


@contextlib.contextmanager
def _a_server_that_never_answers() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _keys(url: str) -> dict[str, str]:
    return {"INDELIBLE_HOST": url}


def _serve_and_stop(
    command: list[str],
    server: InMemoryServer,
    folder: Path,
    *application: str,
    is_idle: Callable[[], bool] = lambda: True,
) -> None:
    """Serve `WEB`, ask it 100 times, and stop its master with SIGTERM once it is idle.

    `command` ends with the option that takes the address; `application` names `WEB`.
    """
    (folder / "web.py").write_text(WEB)
    port = a_free_port()
    env = client_environment(INDELIBLE_SPOOL_DIR=str(folder / "spool"), **address(server))
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*command, f"127.0.0.1:{port}", *application],
            cwd=folder,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until(lambda: _answers(port), "it does not answer")
        for _ in range(100):  # a connection each, so that every worker has some
            assert 200 == _asked(port)
        _wait_until(is_idle, "it is not idle")
        process.terminate()
        assert 0 == process.wait(60), (folder / "output").read_text()
    finally:
        _end_all(process)


def _end_all(process: "subprocess.Popen[bytes]") -> None:
    """Kill a server and whatever is left of its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _asked(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/")
        return int(connection.getresponse().status)
    finally:
        connection.close()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _wait_until(condition: Callable[[], object], why_not: str, *, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, why_not
        time.sleep(0.02)
