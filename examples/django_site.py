"""Record the requests of a Django site.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/django_site.py

Leaves: http_request, order_paid, order.paid
"""

import contextlib
import os
import threading
from urllib.error import HTTPError
from urllib.request import urlopen
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import indelible


def order(request: HttpRequest, order_id: int) -> HttpResponse:
    # The client of the settings: they make the default one.
    indelible.capture("order_paid", distinct_id="user_42", properties={"order": order_id})
    request.imtbl_event_name = "order.paid"  # an audit event of this name, though it is a GET
    return HttpResponse(f"order {order_id}")


urlpatterns = [path("orders/<int:order_id>", order)]

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "indelible.hooks.django.Middleware",
    ],
    INDELIBLE={
        "token": os.environ["INDELIBLE_TOKEN"],
        "api_key": os.environ["INDELIBLE_API_KEY"],
        "host": os.environ["INDELIBLE_HOST"],
    },
)

with make_server("127.0.0.1", 0, get_wsgi_application()) as server:
    threading.Thread(target=server.serve_forever).start()
    for url in ("/orders/7", "/nowhere"):
        with contextlib.suppress(HTTPError):
            print(urlopen(f"http://127.0.0.1:{server.server_port}{url}").read().decode())
    server.shutdown()

indelible.shutdown()
