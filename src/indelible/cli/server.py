"""The way to a server: where it is, with which key, and what its answers mean.

The address is INDELIBLE_HOST with INDELIBLE_ADMIN_KEY or INDELIBLE_API_KEY, else that of
``cli.json``, which a server leaves in its data folder. A key from that file is never sent to
another address than the one in it, and a file that another user may have written is not read: it
would name the address that receives the key of the environment.

The server at that address may be hostile. We follow no redirect, so the key goes to one address
only. An answer has a maximum length and a deadline for all of it, however slowly it drips. We ask
for it uncompressed, since a compressed one may unpack to a thousand times its length.
"""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from indelible import __version__
from indelible.cli.failure import ExitCode, Failure, exit_code_of_status
from indelible.errors import InvalidApiKey, ManageScopeMissing, ServerUnreachable, SettingInvalid
from indelible.layout import CLI_FILE
from indelible.untrusted import read_file

if TYPE_CHECKING:
    import httpx

MOST_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""The longest answer that is held: a page of events, each of which may be a megabyte."""
MOST_CLI_FILE_BYTES: Final = 64 * 1024
USER_AGENT: Final = f"indelible-cli/{__version__}"
_TIMEOUT_S: Final = 15.0
_STREAM_TIMEOUT_S: Final = 60.0
_KEPT: Final = ("content-type", "retry-after", "date")

Parameter = str | int | None
Environment = Mapping[str, str]


class Access(NamedTuple):
    """An address, the key for it, and where both were found."""

    url: str
    key: str
    known_from: str


def data_folder(data: Path | None, environ: Environment = os.environ) -> Path:
    """The data folder that a command means."""
    return data or Path(environ.get("INDELIBLE_DATA_DIR") or "data")


def find(data: Path | None, environ: Environment = os.environ) -> Access:
    """Where the server is; `data` is the folder that the caller named, if any.

    Raises:
        ServerUnreachable: no server is known.
        InvalidApiKey: there is no key for it.
    """
    key = environ.get("INDELIBLE_ADMIN_KEY") or environ.get("INDELIBLE_API_KEY")
    host = environ.get("INDELIBLE_HOST")
    file = data_folder(data, environ) / CLI_FILE
    is_named = bool(host and key) and data is None  # then the file has no say, whatever it is
    left = None if is_named else _left_by_server(file)
    if host and data is None:
        url = _url(host)
        if key is None and left is not None and left.url == url:
            return left
        if key is None:
            raise InvalidApiKey(
                "INDELIBLE_HOST is set, and no key for it",
                hint="Set INDELIBLE_ADMIN_KEY or INDELIBLE_API_KEY.",
            )
        return Access(url, _checked(key), "INDELIBLE_HOST")
    if left is None:
        raise ServerUnreachable(
            f"No server is known: {file} is not there"
            + ("" if host else " and INDELIBLE_HOST is not set")
        )
    return left if key is None or data is not None else left._replace(key=_checked(key))


def _left_by_server(file: Path) -> Access | None:
    import msgspec

    try:
        content = read_file(file, most_bytes=MOST_CLI_FILE_BYTES, only_mine=True)
        left = msgspec.json.decode(content, type=dict[str, str])
        return Access(left["host"], left["admin_key"], str(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        raise ServerUnreachable(
            f"{file} cannot be read", hint="Restart the server: it writes the file anew."
        ) from None


def _url(host: str) -> str:
    url = (host if "://" in host else f"http://{host}").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingInvalid(
            f"INDELIBLE_HOST={host}: no address", hint="Write it as http://127.0.0.1:8765."
        )
    return url


def _checked(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingInvalid("The key in the environment has characters that no key has")
    return key


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server:
    """A server, spoken to over HTTP. Use it in a `with`.

    Raises from every call:
        Failure: it does not answer, answers with an error, or is no Indelible server.
    """

    def __init__(self, access: Access) -> None:
        import httpx

        self.access = access
        try:
            self._client = httpx.Client(
                base_url=access.url,
                headers={
                    "authorization": f"Bearer {access.key}",
                    "user-agent": USER_AGENT,
                    "accept-encoding": "identity",
                },
                timeout=_TIMEOUT_S,
                follow_redirects=False,
                # A proxy of the environment is for the world outside; it must not see this key.
                trust_env=not _is_this_machine(access.url),
                # Certificates are checked wherever there are any; over plain HTTP, reading the
                # list of authorities would be half of a command's time.
                verify=urlsplit(access.url).scheme != "http",
            )
        except httpx.InvalidURL as error:
            raise SettingInvalid(f"{access.known_from}: {access.url}: {error}") from None
        self._stream: Any = None  # of the connection, once there is one

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Parameter) -> Any:
        """The decoded answer to a GET; parameters that are None are left out."""
        return self._decoded(self.answer("GET", path, parameters))

    def pages(self, path: str, member: str, **parameters: Parameter) -> Iterator[Any]:
        """What all pages of a list have as `member`, one after the other."""
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **parameters)
            yield from page[member]
            cursor = page["next"]
            if cursor is None:
                return

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
        **parameters: Parameter,
    ) -> Any:
        """The decoded answer to a request with a JSON body; None when it has no content."""
        answer = self.answer(
            method, path, parameters, body=body, headers=headers, timeout_s=timeout_s
        )
        return None if answer.status_code == 204 else self._decoded(answer)

    def answer(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Parameter] | None = None,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        may_fail: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> "httpx.Response":
        """The answer itself; `may_fail` hands an error's answer back as well."""
        import httpx
        import msgspec

        content = None if body is None else msgspec.json.encode(body)
        kind = {} if body is None else {"content-type": "application/json"}
        request = self._client.build_request(
            method,
            path,
            params=_given(parameters),
            content=content,
            headers={**kind, **(headers or {})},
            timeout=timeout_s,
            extensions={"trace": self._trace},
        )
        try:
            with self._within(timeout_s + _TIMEOUT_S) as is_over:
                answer = self._client.send(request, stream=True)
                try:
                    whole = self._whole(answer)
                finally:
                    answer.close()
        except (httpx.TransportError, OSError) as error:
            fault = httpx.ReadTimeout("the answer took too long") if is_over() else error
            raise self._unreachable(fault) from error
        if not whole.is_success and not may_fail:
            raise self._refusal(whole.status_code, whole.content)
        return whole

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str] | None = None, /, **parameters: Parameter
    ) -> Iterator[Iterator[bytes]]:
        """The body of a GET, piece by piece."""
        import httpx

        try:
            with self._client.stream(
                "GET",
                path,
                params=_given(parameters),
                headers=headers,
                timeout=_STREAM_TIMEOUT_S,
            ) as answer:
                if not answer.is_success:
                    raise self._refusal(answer.status_code, self._whole(answer).content)
                self._check_unpacked(answer)
                yield answer.iter_raw()
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error
        except httpx.TransportError as error:
            raise self.bad_answer(f"broke off: {error}") from error

    def token(self, project: str | None) -> str:
        """The project token for product events.

        INDELIBLE_TOKEN where no project is named; else the server is asked, which needs an admin
        key.
        """
        given = os.environ.get("INDELIBLE_TOKEN")
        if given and project is None:
            return given
        wanted = project or "default"
        try:
            listed = self.pages("/v1/projects", "projects")
            found = next((one for one in listed if one["name"] == wanted), None)
        except Failure as failure:
            if failure.code == ManageScopeMissing.code:
                failure.hint = "Set INDELIBLE_TOKEN beside the key, or use an admin key."
            raise
        if found is not None and found["token"]:
            return str(found["token"])
        if found is not None:
            raise Failure(
                "missing_token",
                f"Project {wanted!r} has no valid token",
                hint=f"Make one: indelible keys create token --project {wanted}",
                exit_code=ExitCode.CALLED_WRONGLY,
            )
        raise Failure(
            "not_found",
            f"There is no project {wanted!r}",
            hint="See `indelible project list`.",
            exit_code=ExitCode.CALLED_WRONGLY,
        )

    def newest_index(self, project: str | None) -> int:
        """The index of the newest entry; -1 when the log is empty."""
        events = self.get("/v1/events", limit=1, project=project)["events"]
        return int(events[0]["index"]) if events else -1

    def bad_answer(self, what: str) -> Failure:
        """The server said something that it never says."""
        return Failure(
            "bad_answer",
            f"{self.access.url} {what}",
            hint=f"Is it an Indelible server? The address is from {self.access.known_from}.",
            exit_code=ExitCode.BROKEN,
        )

    def _whole(self, answer: "httpx.Response") -> "httpx.Response":
        """The answer with its body, read here so that its length has a limit."""
        import httpx

        self._check_unpacked(answer)
        parts: list[bytes] = []
        size = 0
        for part in answer.iter_raw():
            parts.append(part)
            size += len(part)
            if size > MOST_ANSWER_BYTES:
                raise self.bad_answer(f"answered with more than {MOST_ANSWER_BYTES:,} bytes")
        return httpx.Response(
            answer.status_code,
            headers={name: answer.headers[name] for name in _KEPT if name in answer.headers},
            content=b"".join(parts),
            request=answer.request,
        )

    def _check_unpacked(self, answer: "httpx.Response") -> None:
        packed = answer.headers.get("content-encoding", "identity")
        if packed.lower() != "identity":
            raise self.bad_answer(f"packed its answer as {packed}, which was not asked for")

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the stream beneath the connection, to cut it off at the deadline."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._stream = info["return_value"]

    @contextmanager
    def _within(self, seconds: float) -> Iterator[Callable[[], bool]]:
        """Cut the connection off after this time; whether that has happened.

        The timeouts of the HTTP client begin again at each byte that it gets.
        """
        until = time.monotonic() + seconds

        def cut_off() -> None:
            beneath = None
            if self._stream is not None:
                beneath = self._stream.get_extra_info("socket")
            if beneath is not None:
                with suppress(OSError):
                    # The plain socket's own: TLS would first say goodbye, and wait.
                    socket.socket.shutdown(beneath, socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield lambda: time.monotonic() >= until
        finally:
            timer.cancel()

    def _decoded(self, answer: "httpx.Response") -> Any:
        import msgspec

        try:
            return msgspec.json.decode(answer.content)
        except msgspec.DecodeError:
            raise self.bad_answer(f"answered {answer.status_code} without JSON") from None

    def _refusal(self, status: int, content: bytes) -> Failure:
        import msgspec

        try:
            body = msgspec.json.decode(content)
            code, message, hint = (str(body[name]) for name in ("code", "message", "hint"))
        except (msgspec.DecodeError, KeyError, TypeError):
            return self.bad_answer(f"answered {status}, not in Indelible's words")
        if status == 401:
            hint = f"The key is not valid at {self.access.url} ({self.access.known_from}). {hint}"
        return Failure(code, message, hint=hint, exit_code=exit_code_of_status(status, code))

    def _unreachable(self, error: Exception) -> Failure:
        ours = ServerUnreachable()
        return Failure(
            ours.code,
            f"{self.access.url} does not answer: {error or type(error).__name__} "
            f"(address from {self.access.known_from})",
            hint=ours.advice,
            exit_code=ExitCode.BROKEN,
        )


def reach(data: Path | None) -> Server:
    """The server that a command means."""
    return Server(find(data))


def _given(parameters: Mapping[str, Parameter] | None) -> dict[str, str | int]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}
