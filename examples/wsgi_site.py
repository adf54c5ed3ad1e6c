"""Record the requests of a WSGI application that uses no framework.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/wsgi_site.py

Leaves: http_request, http.DELETE./items/{item_id}

WSGI knows no routes: an application that has some leaves the template in the environ.
"""

import contextlib
import threading
from collections.abc import Iterable
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from indelible import Indelible
from indelible.hooks.wsgi import ROUTE, Middleware

client = Indelible()


def shop(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if not environ["PATH_INFO"].startswith("/items/"):
        start_response("404 Not Found", [])
        return []
    environ[ROUTE] = "/items/{item_id}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"an item"]


with make_server("127.0.0.1", 0, Middleware(shop, client)) as server:
    threading.Thread(target=server.serve_forever).start()
    for method, path in (("DELETE", "/items/7"), ("GET", "/nowhere")):
        request = Request(f"http://127.0.0.1:{server.server_port}{path}", method=method)
        with contextlib.suppress(HTTPError):
            print(urlopen(request).read().decode())
    server.shutdown()

client.shutdown()
