"""What ``indelible serve`` says once it would answer."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from indelible.cli.invocation import as_typed

if TYPE_CHECKING:
    from indelible.app import Welcome

FIRST_EVENT: Final = "hello-1"


def banner(welcome: "Welcome", *, keys_file: Path | None) -> str:
    """The address, the token, secrets made just now, a line to try, and how to see its event.

    With `keys_file` the secrets are in there, and not in the banner.
    """
    event = {
        "api_key": welcome.token,
        "event": "hello",
        "distinct_id": "me",
        "uuid": FIRST_EVENT,
    }
    lines = [
        f"Indelible answers at {welcome.url}   (API: {welcome.url}/docs)",
        f"data folder    {welcome.data_dir.resolve()}",
        f"project token  {welcome.token}   (public: belongs in pages and apps)",
    ]
    secrets = {name: secret for name, secret in welcome.made.items() if name != "token"}
    if keys_file is not None:
        lines.append(f"first keys     {keys_file}   (take them from there, and delete it)")
    elif secrets:
        lines += [f"{name:<14} {secret}" for name, secret in secrets.items()]
        lines.append("Keep these keys now: they are stored hashed and never shown again.")
    lines += [
        "",
        "Send an event:",
        f"  curl {welcome.url}/api/e -H 'content-type: application/json' \\",
        f"    -d {shlex.quote(json.dumps(event))}",
        "",
        "Then look at it:",
        f"  {as_typed('where', FIRST_EVENT, data=welcome.data_dir)}",
        f"  {as_typed('tail', data=welcome.data_dir)}",
    ]
    return "\n".join(lines)
