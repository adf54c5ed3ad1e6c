"""Record a Starlette application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/starlette_app.py

Leaves: http_request, cart_filled, http.POST./carts/{cart_id}
"""

from _visiting import visit
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import indelible
from indelible.hooks.asgi import Middleware


async def cart(request: Request) -> PlainTextResponse:
    indelible.set_distinct_id("user_42")  # whose this request is: its own events, too
    indelible.capture("cart_filled")
    return PlainTextResponse(f"cart {request.path_params['cart_id']}")


app = Starlette(routes=[Route("/carts/{cart_id}", cart, methods=["POST"])])
app.add_middleware(Middleware)

visit(app, "POST /carts/7", "/nowhere")
print("delivered:", indelible.flush(10))
