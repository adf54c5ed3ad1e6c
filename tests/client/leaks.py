"""Opens every door of the client, and prints what each shows: ``python -m tests.client.leaks``.

One JSON object: a text for each door. The frames of this program itself are left out: they hold the
secrets that it passes.
"""

import _thread
import asyncio
import contextlib
import functools
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import pydoc
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask

import indelible
from indelible.client import AsyncIndelible, Indelible, Options
from indelible.errors import AuditFailed
from indelible.hooks import asgi, celery, wsgi
from indelible.hooks.flask import IndelibleFlask
from indelible.hooks.jobs import job
from tests.client.proxy import Proxy

OURS: Final = str(Path(indelible.__file__).parent)
SILENT_MODULES: Final = ("hidden", "options", "privacy", "validity")
"""Their functions look at secrets, and neither raise nor wait while they do."""
SILENT_FUNCTION: Final = f"{OURS}/client/proxy.py _read"
"""Takes an address with a password apart, and does neither."""
IN_A_BODY: Final = {"body", "data"}
"""The public token is in the body of every request that carries product events."""


def modules() -> Iterator[types.ModuleType]:
    """The package, the client, and every hook."""
    yield indelible
    for package in ("indelible.client", "indelible.hooks", "indelible.testing"):
        yield importlib.import_module(package)
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
            yield importlib.import_module(f"{package}.{found.name}")


def members(module: types.ModuleType) -> Iterator[Any]:
    """Every function and class of a module, and what the classes have."""
    for name in dir(module):
        one = getattr(module, name)
        if inspect.isclass(one) and str(one.__module__).startswith("indelible"):
            yield one
            yield from (each for each in vars(one).values() if callable(each))
        elif inspect.isfunction(one):
            yield one


def helped() -> str:
    """What `help()` prints of each module and class."""
    texts = []
    for module in modules():
        texts.append(_help(module))
        texts += [
            _help(getattr(module, name))
            for name in dir(module)
            if inspect.isclass(getattr(module, name))
        ]
    return "\n".join(texts)


def _help(one: object) -> str:
    return pydoc.render_doc(one, renderer=pydoc.plaintext)  # type: ignore[attr-defined]


def signatures() -> str:
    """What an editor's tooltip shows of each function, method and class."""
    shown = []
    for module in modules():
        for one in members(module):
            with contextlib.suppress(ValueError, TypeError):
                shown.append(str(inspect.signature(one)))
            shown.append(repr(getattr(one, "__defaults__", None)))
            shown.append(repr(getattr(one, "__kwdefaults__", None)))
    return "\n".join(shown)


def reachable(*roots: object) -> str:
    """The `repr` and the text of each object of ours that can be reached from these."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple | set):
            waiting += one
        if type(one).__module__.startswith("indelible") and type(one).__name__ not in (
            "Hidden",
            "Options",
            "ProductWire",
            "AuditWire",
        ):
            names = [*getattr(one, "__dict__", ()), *_slots(one)]
            waiting += [getattr(one, name) for name in names if hasattr(one, name)]
        elif inspect.ismethod(one):
            waiting.append(one.__self__)
        elif inspect.isfunction(one) and one.__closure__:
            waiting += [cell.cell_contents for cell in one.__closure__]
    ours = [one for one in seen.values() if type(one).__module__.startswith("indelible")]
    return "\n".join(f"{one!r} {one}" for one in ours)


def _slots(one: object) -> list[str]:
    return [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]


# What a crash reporter sees.


def reported(error: BaseException | None) -> str:
    """The traceback of an error and of those behind it, with the variables of each frame, as deep
    as a reporter looks into them."""
    texts: list[str] = []
    while error is not None:
        places = [
            (frame, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename != __file__
        ]
        texts += [type(error).__name__, str(error)]
        texts += traceback.StackSummary.extract(iter(places), capture_locals=True).format()
        texts += [shown(value) for frame, _ in places for value in frame.f_locals.values()]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def shown(value: object) -> str:
    """A variable as reporters show it: containers are looked into, text is shown as it is."""
    if isinstance(value, Mapping):
        return " ".join(f"{shown(name)} {shown(one)}" for name, one in value.items())
    if isinstance(value, list | tuple | set):
        return " ".join(map(shown, value))
    return value if isinstance(value, str) else repr(value)


class Interrupted(BaseException):
    """As by Ctrl-C, or a time limit of the application's."""


@contextlib.contextmanager
def interrupted(after_s: float) -> Iterator[None]:
    """Raise `Interrupted` in the block after so long."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _nothing(*_: object) -> Any:
    """An application that is never called."""


def refusals() -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways to be refused by what makes a client, each with every secret among its arguments."""
    env = os.environ
    makers: dict[str, Callable[..., object]] = {
        "Indelible": Indelible,
        "AsyncIndelible": AsyncIndelible,
        "configure": indelible.configure,
        "Options": lambda token, **options: Options(token=token, **options),
        "asgi": lambda token, **settings: asgi.Middleware(_nothing, token=token, **settings),
        "wsgi": lambda token, **settings: wsgi.Middleware(_nothing, token=token, **settings),
        "job": lambda token, **settings: job("nightly", token=token, **settings),
        "flask": lambda token, **settings: IndelibleFlask(Flask("x"), token=token, **settings),
        "celery": lambda token, **settings: celery.install(token=token, **settings),
        "Options.read": lambda token, **options: Options.read(os.environ, token=token, **options),
    }
    wrong: list[dict[str, object]] = [
        {"colour": "red"},
        {"batch_s": -1},
        {"mode": "fast"},
        {"max_queued": "many"},
        {"redact_patterns": ["("]},
        {"host": "https://h/?query"},
        {"headers": {"X": 5}},
        {"enabled": "0"},
    ]
    for name, make in makers.items():
        for options in wrong:
            yield (
                f"{name} {options}",
                lambda make=make, options=options: make(  # type: ignore[misc]
                    env["INDELIBLE_TOKEN"],
                    **{
                        "api_key": env["INDELIBLE_API_KEY"],
                        "pii_key": env["INDELIBLE_PII_KEY"],
                        "headers": {"X-Pass": env["INDELIBLE_HEADERS"].partition("=")[2]},
                        **options,
                    },
                ),
            )
    swapped: list[dict[str, object]] = [
        {"token": "INDELIBLE_API_KEY"},
        {"api_key": "INDELIBLE_TOKEN"},
        {"host": "INDELIBLE_API_KEY"},
    ]
    for names in swapped:
        yield (
            f"swapped {names}",
            lambda names=names: makers["Indelible"](  # type: ignore[misc]
                **{option: env[str(variable)] for option, variable in names.items()}
            ),
        )


def captured(client: Indelible) -> Indelible:
    client.capture("e")
    return client


def crashes(silent_host: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways to fail of a client that was made; at `silent_host` nobody answers."""
    waits = Indelible(host=silent_host, total_s=30, spool_audit=False)
    gone = Indelible(host="http://127.0.0.1:9", spool_audit=False)
    yield "send", lambda: gone.audit.send("order.created", {})
    yield "send nonsense", lambda: gone.audit.send("", {})
    yield "fetch_receipt", lambda: gone.audit.fetch_receipt("tx_0")
    yield "doctor", lambda: str(gone.doctor())
    for name, call in {
        "send": lambda: waits.audit.send("order.created", {}),
        "send_batch": lambda: waits.audit.send_batch([{"event_name": "a.b", "payload": {}}]),
        "fetch_receipt": lambda: waits.audit.fetch_receipt("tx_0"),
        "flush": lambda: captured(waits).flush(30),
        "doctor": waits.doctor,
    }.items():

        def call_and_interrupt(call: Callable[[], object] = call) -> None:
            with interrupted(0.1):
                call()

        yield f"{name} interrupted", call_and_interrupt
    waits.shutdown(0)
    gone.shutdown(0)
    yield "send when closed", lambda: gone.audit.send("order.created", {})


def outcome(call: Callable[[], object]) -> str:
    """What is seen of a call that fails."""
    try:
        return f"no error: {call()!r}"
    except BaseException as error:
        return reported(error)


class Watcher:
    """Looks at the variables of every frame of ours, at every line, on every thread."""

    def __init__(self) -> None:
        self.found: list[str] = []
        silent = [f"{OURS}/client/{name}.py" for name in SILENT_MODULES]
        self._silent = (*silent, SILENT_FUNCTION)
        self._foreign = [os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["DATABASE_URL"]]
        named = ("INDELIBLE_API_KEY", "INDELIBLE_TOKEN", "INDELIBLE_PII_KEY", "INDELIBLE_HEADERS")
        self._own = [os.environ[name].rpartition("=")[2] for name in named]
        self._own += [os.environ["PROXY_PASSWORD"], os.environ["PROXY_CREDENTIALS"]]
        self._public = os.environ["INDELIBLE_TOKEN"]

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look at this thread, and at those that begin in the block, to their end."""
        start = _thread.start_new_thread

        def start_watched(call: Callable[..., object], *arguments: Any) -> int:
            def watched(*given: Any, **named: Any) -> None:
                sys.settrace(self)
                call(*given, **named)

            return start(watched, *arguments)

        # As the client does it; `threading.settrace` is for threads of `threading` alone.
        _thread.start_new_thread = start_watched
        threading.settrace(self)
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)
            _thread.start_new_thread = start

    def __call__(self, frame: types.FrameType, event: str, _: object) -> "Watcher | None":
        file = frame.f_code.co_filename
        if not file.startswith(OURS):
            return None
        where = f"{file} {frame.f_code.co_qualname}"
        is_silent = where.startswith(self._silent)
        wanted = self._foreign if is_silent else self._foreign + self._own
        is_sending = frame.f_code.co_name == "sendall"
        for name, value in list(frame.f_locals.items()):
            text = "" if is_sending and name == "data" else shown(value)
            for secret in wanted:
                if secret in text and not (secret == self._public and name in IN_A_BODY):
                    self.found.append(f"{frame.f_code.co_qualname}: {name} = {text[:200]}")
        return self


def session(client: Indelible) -> None:
    """A life of a client."""
    with client.context(distinct_id="user_42"):
        client.capture("purchase_completed", properties={"amount": 1})
    client.identify("user_42", {"plan": "pro"})
    client.audit.send_async("order.created", {})
    client.audit.send("order.created", {})
    client.audit.send_batch([{"event_name": "a.b", "payload": {}}] * 3)
    client.flush(30)
    client.doctor()
    client.counts()
    client._after_fork()
    client.capture("after")
    client.shutdown(30)


def watched() -> str:
    """What the variables of our frames show of a session; and the same for each kind of client."""
    watcher = Watcher()
    with watcher.looking():
        session(Indelible())
        session(indelible.configure())
        twin = AsyncIndelible()
        asyncio.run(_awaited(twin))
        with behind_a_proxy() as proxies:
            for proxy in proxies:
                _short_session(proxy)
    return "\n".join(dict.fromkeys(watcher.found))


@contextlib.contextmanager
def behind_a_proxy() -> Iterator[Iterator[Proxy]]:
    """Ways through a proxy that wants a password, for plain HTTP and by a tunnel: it takes, it
    refuses, it is gone, and cannot be used."""
    server = urlsplit(os.environ["INDELIBLE_HOST"])
    user = f"user:{os.environ['PROXY_PASSWORD']}"

    def ways() -> Iterator[Proxy]:
        for scheme in ("http", "https"):
            with Proxy((str(server.hostname), int(server.port or 80))) as proxy:
                os.environ[f"{scheme}_proxy"] = f"http://{user}@{proxy.place}"
                os.environ["PROXIED_HOST"] = f"{scheme}://events.example.com"
                yield proxy
                proxy.refusal = b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"
                yield proxy
            yield proxy  # is gone
            os.environ[f"{scheme}_proxy"] = f"socks5://{user}@{proxy.place}"
            yield proxy
            os.environ[f"{scheme}_proxy"] = f"http://{user}@:{user}"
            yield proxy
            del os.environ[f"{scheme}_proxy"]

    yield ways()


def _proxied() -> Indelible:
    host = os.environ["PROXIED_HOST"]
    return Indelible(host=host, insecure=True, spool_audit=False, total_s=2)


def _short_session(_: Proxy) -> None:
    client = _proxied()
    client.capture("e")
    with contextlib.suppress(AuditFailed):
        client.audit.send("order.created", {})
    client.flush(0.2)
    client.doctor()
    client.shutdown(0)


async def _awaited(twin: AsyncIndelible) -> None:
    await twin.audit.send("order.created", {})
    await twin.flush(30)
    await twin.shutdown(30)


def main(silent_host: str) -> None:
    client, twin = Indelible(), AsyncIndelible()
    client.capture("e")
    client.audit.send("order.created", {})
    doors = {
        "help": helped(),
        "signatures": signatures(),
        "repr": reachable(client, twin, indelible.default_client(), indelible.audit),
        "variables": watched(),
    }
    for name, call in itertools.chain(refusals(), crashes(silent_host)):
        doors[name] = outcome(call)
    with behind_a_proxy() as proxies:
        for place, _ in enumerate(proxies):
            with _proxied() as proxied:
                send = functools.partial(proxied.audit.send, "a.b", {})
                doors[f"send by proxy {place}"] = outcome(send)
                doors[f"doctor by proxy {place}"] = outcome(proxied.doctor)
    client.shutdown(30)
    asyncio.run(twin.shutdown(30))
    keeps = Indelible(host="http://127.0.0.1:9", spool=True)
    keeps.capture("kept")
    keeps.audit.send("order.kept", {})
    keeps.shutdown(0.1)
    json.dump(doors, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
