"""A Flask site for a server in a process of its own; the client is made from the environment."""

from pathlib import Path

from flask import Flask, Response, send_file

from indelible import default_client
from indelible.hooks.flask import IndelibleFlask
from tests.hooks.shop import Shop

shop = Shop(default_client())
app = Flask(__name__)
IndelibleFlask(app, audit_methods=None)
app.add_url_rule("/health", "health", shop.hello)
app.add_url_rule("/me/<name>", view_func=shop.me)
app.add_url_rule("/whoami", view_func=shop.whoami)
app.add_url_rule("/raises", view_func=shop.raises)
app.add_url_rule("/stream", "stream", lambda: Response(shop.chunks()))
app.add_url_rule("/endless", "endless", lambda: Response(shop.endless()))
app.add_url_rule("/file", "file", lambda: send_file(Path(__file__).with_name("contract.py")))
