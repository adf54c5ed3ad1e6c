"""Record the requests of a Bottle application, and of one that is mounted in it.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/bottle_site.py

Leaves: http_request, http.DELETE./shop/items/<item_id>
"""

import contextlib
import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from wsgiref.simple_server import make_server

from bottle import Bottle

from indelible import Indelible
from indelible.hooks.bottle import IndelibleBottle

client = Indelible()
app = Bottle()
app.install(IndelibleBottle(client))
app.route("/hello", callback=lambda: "hello")

shop = Bottle()
shop.delete("/items/<item_id>", callback=lambda item_id: f"item {item_id}")
app.mount("/shop/", shop)

with make_server("127.0.0.1", 0, app) as server:
    threading.Thread(target=server.serve_forever).start()
    for method, path in (("GET", "/hello"), ("DELETE", "/shop/items/7"), ("GET", "/nowhere")):
        request = Request(f"http://127.0.0.1:{server.server_port}{path}", method=method)
        with contextlib.suppress(HTTPError):
            print(urlopen(request).read().decode())
    server.shutdown()

client.shutdown()
