"""The settings of a hook in one dict, parted: what makes the client, what is recorded.

>>> options, recording = parted({"api_key": "k", "api_url": "http://127.0.0.1:8765", "audit": True})
>>> options
{'api_key': 'k', 'host': 'http://127.0.0.1:8765'}
>>> recording
{'audit': True}
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from indelible.client.client import Indelible, prepare
from indelible.client.options import Options
from indelible.hooks.observer import Observer, Recording

_RECORDING: Final = frozenset(field.name for field in fields(Recording))
_OPTIONS: Final = frozenset(field.name for field in fields(Options)) - _RECORDING
_IMMUTABLELOG: Final = {"api_url": "host", "service_name": "service"}


def parted(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the client, and fields of `Recording`; `max_payload_bytes` is one of the latter.

    ImmutableLog's names stand for ours: `api_url` for `host`, `service_name` for `service`.

    Raises:
        TypeError: a name is neither.
    """
    named = {_IMMUTABLELOG.get(name, name): value for name, value in given.items()}
    options = {name: value for name, value in named.items() if name in _OPTIONS}
    recording = {name: value for name, value in named.items() if name in _RECORDING}
    unknown = named.keys() - options.keys() - recording.keys()
    if unknown:
        raise TypeError(f"no such option or field of Recording: {', '.join(sorted(unknown))}")
    return options, recording


def observer_of(client: Indelible | None, *, framework: str, **settings: Any) -> Observer:
    """An observer that sends with `client`; without one, with that which the settings make.

    Raises:
        TypeError: there is no such setting.
        InvalidOption: a setting means nothing.
    """
    options, recording = parted(settings)
    return Observer(client_of(client, options), framework=framework, **recording)


def client_of(client: Indelible | None, options: Mapping[str, Any]) -> Indelible | None:
    """The client that was given; else one made of `options`; None, the default one, without any."""
    if client is not None:
        return client
    prepare()
    return Indelible(**options) if options else None
