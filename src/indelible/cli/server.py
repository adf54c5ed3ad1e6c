"""The way to a server: where it is, with which key, and what its answers mean.

The address is INDELIBLE_HOST with INDELIBLE_ADMIN_KEY or INDELIBLE_API_KEY, else that of
``cli.json``, which a server leaves in its data folder. A key from that file is never sent to
another address than the one beside it.
"""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from indelible import __version__
from indelible.cli.failure import ExitCode, Failure, exit_code_of_status
from indelible.errors import InvalidApiKey, ServerUnreachable, SettingInvalid
from indelible.layout import CLI_FILE

if TYPE_CHECKING:
    import httpx

USER_AGENT: Final = f"indelible-cli/{__version__}"
_TIMEOUT_S: Final = 15.0
_STREAM_TIMEOUT_S: Final = 60.0

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
    left = _left_by_server(file)
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
        left = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
        return Access(left["host"], left["admin_key"], str(file))
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, KeyError):
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
                headers={"authorization": f"Bearer {access.key}", "user-agent": USER_AGENT},
                timeout=_TIMEOUT_S,
                # A proxy of the environment is for the world outside; it must not see this key.
                trust_env=not _is_this_machine(access.url),
                # Certificates are checked wherever there are any; over plain HTTP, reading the
                # list of authorities would be half of a command's time.
                verify=urlsplit(access.url).scheme != "http",
            )
        except httpx.InvalidURL as error:
            raise SettingInvalid(f"{access.known_from}: {access.url}: {error}") from None

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
        try:
            answer = self._client.request(
                method,
                path,
                params=_given(parameters),
                content=content,
                headers={**kind, **(headers or {})},
                timeout=timeout_s,
            )
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not answer.is_success and not may_fail:
            raise self._refusal(answer.status_code, answer.content)
        return answer

    @contextmanager
    def stream(self, path: str, **parameters: Parameter) -> Iterator[Iterator[bytes]]:
        """The body of a GET, piece by piece."""
        import httpx

        try:
            with self._client.stream(
                "GET", path, params=_given(parameters), timeout=_STREAM_TIMEOUT_S
            ) as answer:
                if not answer.is_success:
                    raise self._refusal(answer.status_code, answer.read())
                yield answer.iter_bytes()
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
            projects = self.get("/v1/projects")["projects"]
        except Failure as failure:
            if failure.code == "forbidden":
                failure.hint = "Set INDELIBLE_TOKEN beside the key, or use an admin key."
            raise
        for one in projects:
            if one["name"] == wanted and one["token"]:
                return str(one["token"])
        if any(one["name"] == wanted for one in projects):
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

    def _unreachable(self, error: "httpx.TransportError") -> Failure:
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
