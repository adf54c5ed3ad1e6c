"""The gate: which project a request is for, and whether its key may do what it asks."""

import hmac
from collections.abc import Callable, Sequence

from indelible.access import ROUTES, Scope
from indelible.clock import Clock
from indelible.errors import (
    Forbidden,
    InvalidApiKey,
    IpNotAllowed,
    MissingToken,
    MixedTokens,
    OriginNotAllowed,
    UnknownToken,
)
from indelible.network import Address, Network, client_address
from indelible.origin import allows
from indelible.registry.caller import Caller
from indelible.registry.snapshot import Known
from indelible.registry.values import Key, Project, Role, digest_of

FindAddress = Callable[[], Address | None]
"""Finds out where a request comes from. Called only for keys that are bound to addresses."""

Page = Callable[[], str | None]
"""Finds out the origin of the page that is calling, None where it is no page. Called only for
tokens that are bound to origins."""


class Gate:
    """Opens for a valid token or key. Nothing that it raises or logs repeats a secret."""

    def __init__(self, known: Known, *, clock: Clock, trusted_proxies: Sequence[Network]) -> None:
        self._known = known
        self._clock = clock
        self._trusted_proxies = trusted_proxies

    def address(self, peer: str | None, forwarded_for: Sequence[str]) -> Address | None:
        """Where a request comes from, by the trusted proxies of this server."""
        return client_address(peer, forwarded_for, self._trusted_proxies)

    def key_of_tokens(self, tokens: Sequence[str], address: FindAddress, page: Page) -> Key:
        """The one token of a request, which has a project.

        Origins bind pages only: what is no page can claim any origin, or none.

        Raises:
            MissingToken, UnknownToken, MixedTokens, IpNotAllowed, OriginNotAllowed.
        """
        distinct = set(tokens)
        if not distinct:
            raise MissingToken
        if len(distinct) > 1:
            raise MixedTokens
        (token,) = distinct
        key = self._known.snapshot.tokens.get(token)
        if key is None or not key.is_valid(self._clock()):
            if digest_of(token) in self._known.snapshot.keys or _looks_secret(token):
                raise UnknownToken(
                    "An API key stands where the project token belongs",
                    hint="Send the public project token, which begins with ind_pub_ unless it was "
                    "fixed; and replace that key, since it may have been exposed.",
                )
            raise UnknownToken
        if key.networks and not key.allows(address()):
            raise IpNotAllowed
        if key.origins:
            origin = page()
            if origin is not None and not allows(key.origins, origin):
                raise OriginNotAllowed
        return key

    def secrets_of(self, project: Project, authorization: str) -> list[str]:
        """What is not to be shown of a request for `project`: its tokens, also those that have
        ended, and the key of this Authorization header. They may stand anywhere in a body."""
        tokens = self._known.snapshot.tokens.items()
        found = [token for token, key in tokens if key.project == project]
        _, _, secret = authorization.partition(" ")
        return [*found, secret.strip()] if secret.strip() else found

    def is_token(self, text: str) -> bool:
        """Whether `text` is a valid project token."""
        key = self._known.snapshot.tokens.get(text)
        return key is not None and key.is_valid(self._clock())

    def caller(self, authorization: str | None, address: FindAddress) -> Caller:
        """Whoever has the key of this Authorization header.

        Raises:
            InvalidApiKey: missing, unknown, ended, or a project token.
            IpNotAllowed: the key is bound to other addresses.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise InvalidApiKey
        key = self._known.snapshot.keys.get(digest_of(secret.strip()))
        if key is None or not key.is_valid(self._clock()):
            raise InvalidApiKey
        if key.role is Role.TOKEN:
            raise InvalidApiKey(
                "A project token is public and write-only: it does not open this route"
            )
        if key.networks and not key.allows(address()):
            raise IpNotAllowed
        return Caller.with_key(key)

    def caller_on(self, route: str, authorization: str | None, address: FindAddress) -> Caller:
        """`caller`, if it has the scope that `access.ROUTES` declares for this route.

        Raises:
            InvalidApiKey, IpNotAllowed; Forbidden: the scope is missing.
        """
        scope = ROUTES[route]
        assert isinstance(scope, Scope)
        caller = self.caller(authorization, address)
        caller.require(scope)
        return caller

    def project_to_read(self, caller: Caller, name: str | None) -> Project:
        """`project_of`, or what stands for the server if `name` says so, whose log takes `manage`.

        Raises:
            Forbidden, NotFound.
        """
        server = self._known.snapshot.server
        if server is None or name != server.name:
            return self.project_of(caller, name)
        caller.require(Scope.MANAGE)
        return server

    def project_of(self, caller: Caller, name: str | None) -> Project:
        """The project that a request of this caller is about.

        An application key has its own; an admin key names one, or means `default`.

        Raises:
            Forbidden: an application key asks for another project.
            NotFound: there is no such project.
        """
        own = caller.key.project
        if own is None:
            return self._known.snapshot.project(name or "default")
        if name is not None and name != own.name:
            raise Forbidden(f"This key belongs to another project than {name!r}")
        return own


def has_bearer(authorization: str | None, secret: str | None) -> bool:
    """Whether an Authorization header carries this secret; False if there is no secret."""
    scheme, _, given = (authorization or "").partition(" ")
    return (
        secret is not None
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode(), secret.encode())
    )


def _looks_secret(token: str) -> bool:
    return token.startswith(("iml_live_", "iml_test_", "ind_adm_"))
