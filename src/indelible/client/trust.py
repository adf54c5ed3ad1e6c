"""Whose certificates are trusted: the file of the option, of the environment, or the system's."""

import os
import ssl
from pathlib import Path
from typing import Final

_OF_OPENSSL: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OF_OTHERS: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class TrustUnreadable(Exception):
    """A file of certificates cannot be read; the message names it and where its name is from."""


def tls_context(ca_file: str | Path | None) -> ssl.SSLContext:
    """A context that trusts the authorities of the first that is set.

    `ca_file`, the variables `SSL_CERT_FILE` and `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE`,
    `CURL_CA_BUNDLE`. Each takes the place of the system's authorities, which count if none is set.

    Raises:
        TrustUnreadable: there is no such file or folder, or no certificate in it.
    """
    if ca_file is not None:
        return _trusting(str(ca_file), "ca_file")
    named = {name: os.environ.get(name, "") for name in (*_OF_OPENSSL, *_OF_OTHERS)}
    if any(named[name] for name in _OF_OPENSSL):
        for name in _OF_OPENSSL:
            # OpenSSL reads them itself, and passes over what is missing in silence.
            path = named[name].partition(os.pathsep)[0] if name.endswith("DIR") else named[name]
            if path and not Path(path).exists():
                raise TrustUnreadable(f"{name}: there is no {path}")
        return _prepared(ssl.create_default_context())
    for name in _OF_OTHERS:
        if named[name]:
            return _trusting(named[name], name)
    return _prepared(ssl.create_default_context())


def _trusting(path: str, source: str) -> ssl.SSLContext:
    try:
        if Path(path).is_dir():
            return _prepared(ssl.create_default_context(capath=path))
        return _prepared(ssl.create_default_context(cafile=path))
    except ssl.SSLError:
        raise TrustUnreadable(f"{source}: no certificate in PEM in {path}") from None
    except OSError as error:
        raise TrustUnreadable(f"{source}: {path}: {error.strerror}") from None


def _prepared(context: ssl.SSLContext) -> ssl.SSLContext:
    # Some front ends close a connection that does not say what it will speak.
    context.set_alpn_protocols(["http/1.1"])
    return context
