"""Record the requests of a Flask application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/flask_site.py

Leaves: http_request, http.GET./items/<item_id>, $identify, order.created, http.GET.<unmatched>
"""

import contextlib
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

from flask import Flask, g
from werkzeug.serving import make_server

from indelible import Indelible
from indelible.hooks.flask import IndelibleFlask

client = Indelible()
app = Flask(__name__)
IndelibleFlask(app, client)


@app.get("/items/<item_id>")
def item(item_id: str) -> str:
    return f"item {item_id}"


@app.get("/order")
def order() -> str:
    client.identify("user_42")  # the rest of the request is theirs, its events too
    g.imtbl_event_name = "order.created"  # instead of http.GET./order
    return "ordered"


server = make_server("127.0.0.1", 0, app)
threading.Thread(target=server.serve_forever).start()
for path in ("/items/7", "/order", "/nowhere"):
    with contextlib.suppress(HTTPError):
        print(urlopen(f"http://127.0.0.1:{server.server_port}{path}").read().decode())
server.shutdown()

client.shutdown()
