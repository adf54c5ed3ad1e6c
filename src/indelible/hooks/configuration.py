"""The settings of a hook, parted: what makes the client, what is recorded.

>>> given = Hidden({"api_key": "k", "api_url": "http://127.0.0.1:8765", "audit": True})
>>> options, recording = parted(given)
>>> sorted(options.names), options.get("host"), recording
(['api_key', 'host'], 'http://127.0.0.1:8765', {'audit': True})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from indelible.client.client import Indelible, prepare
from indelible.client.hidden import Hidden
from indelible.client.options import ClientOptions, Options
from indelible.client.validity import no_such
from indelible.hooks.observation import Observation
from indelible.hooks.observer import IpMode, NameStyle, Observer, Recording
from indelible.hooks.payload import Dialect

_RECORDING: Final = frozenset(field.name for field in fields(Recording))
_OPTIONS: Final = frozenset(field.name for field in fields(Options)) - _RECORDING
_IMMUTABLELOG: Final = {"api_url": "host", "service_name": "service"}


class Settings(ClientOptions, total=False):
    """What every hook takes as keyword arguments: options of the client, which is made of them, and
    fields of `Recording`. `api_url` and `service_name` are ImmutableLog's names for `host` and
    `service`.
    """

    token: str | None
    api_url: str | None
    service_name: str | None
    product: bool
    audit: bool | None
    audit_methods: Sequence[str] | None
    error_messages: bool
    skip: Sequence[str]
    request_filter: Callable[[str, str], bool] | None
    extra: Callable[[Observation], Mapping[str, object]] | None
    sample: float | Mapping[str, float]
    name_style: NameStyle
    dialect: Dialect
    identify_from_cookie: bool
    user_agent: bool
    ip_mode: IpMode | None
    trusted_proxies: str
    install_signal_handlers: bool


def parted(given: Hidden) -> tuple[Hidden, dict[str, Any]]:
    """Options of the client, and fields of `Recording`; `max_payload_bytes` is one of the latter.

    Raises:
        TypeError: a name is neither.
    """
    options, recording, unknown = Hidden({}), {}, []
    for name in given:
        ours = _IMMUTABLELOG.get(name, name)
        if ours in _RECORDING:
            recording[ours] = given.get(name)
        elif ours in _OPTIONS:
            options.put(ours, given.get(name))
        else:
            unknown.append(name)
    if unknown:
        known = _OPTIONS | _RECORDING
        raise TypeError(no_such(unknown, known, "option or field of Recording"))
    return options, recording


def observer_of(
    client: Indelible | None, settings: Any, *, framework: str, **usual: Any
) -> Observer:
    """An observer that sends with `client`; without one, with that which the settings make.

    Args:
        settings: what the hook was given; emptied, so that its frame holds no secret.
        usual: fields of `Recording` that count where the settings have none.

    Raises:
        TypeError: there is no such setting.
        InvalidOption: a setting means nothing.
    """
    options, recording = parted(Hidden.moved(settings))
    return Observer(client_of(client, options), framework=framework, **{**usual, **recording})


def client_of(client: Indelible | None, options: Hidden) -> Indelible | None:
    """The client that was given; else one made of `options`; None, the default one, without any."""
    if client is not None:
        return client
    prepare()
    return Indelible._of(Options.found(options)) if options.names else None
