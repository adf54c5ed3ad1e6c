"""Litestar: what it raised, which is seen from nowhere outside it.

    app = Litestar([…], after_exception=[tell_error])
    app = Middleware(app, client)          # of indelible.hooks.asgi

Without `tell_error` a request that raised is a plain 500: Litestar makes an answer of what a
handler raised and raises it no further. A `middleware=` of Litestar's would miss every 404.
"""

from typing import Any

from indelible.hooks.scope import ERROR


def tell_error(error: Exception, scope: Any) -> None:
    """Leave `error` for the middleware, unless it is an ordinary answer, such as a 404."""
    if getattr(error, "status_code", 500) >= 500:
        scope[ERROR] = error
