"""Record the requests of a Flask application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/flask_site.py

Leaves: http_request, http.DELETE./items/<item_id>, order.created
"""

import contextlib
import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from flask import Flask, g
from werkzeug.serving import make_server

from indelible import Indelible
from indelible.hooks.flask import IndelibleFlask

client = Indelible()
app = Flask(__name__)
IndelibleFlask(app, client)


@app.delete("/items/<item_id>")
def item(item_id: str) -> str:
    return f"item {item_id}"


@app.get("/order")
def order() -> str:
    client.set_distinct_id("user_42")  # whose this request is, and its events
    g.imtbl_event_name = "order.created"  # an audit event of this name, though it is a GET
    return "ordered"


server = make_server("127.0.0.1", 0, app)
threading.Thread(target=server.serve_forever).start()
for method, path in (("DELETE", "/items/7"), ("GET", "/order"), ("GET", "/nowhere")):
    request = Request(f"http://127.0.0.1:{server.server_port}{path}", method=method)
    with contextlib.suppress(HTTPError):
        print(urlopen(request).read().decode())
server.shutdown()

client.shutdown()
