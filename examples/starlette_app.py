"""Record a Starlette application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/starlette_app.py

Leaves: http_request, $identify, cart_viewed, http.GET./carts/{cart_id}, http.GET.<unmatched>
"""

from _visiting import visit
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import indelible
from indelible.hooks.asgi import Middleware


async def cart(request: Request) -> PlainTextResponse:
    indelible.identify("user_42")  # the request's own event belongs to this person, too
    indelible.capture("cart_viewed")
    return PlainTextResponse(f"cart {request.path_params['cart_id']}")


app = Starlette(routes=[Route("/carts/{cart_id}", cart)])
app.add_middleware(Middleware)

visit(app, "/carts/7", "/nowhere")
print("delivered:", indelible.flush(10))
