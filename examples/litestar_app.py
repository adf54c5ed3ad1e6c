"""Record a Litestar application, from outside.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/litestar_app.py

Leaves: http_request, $identify, cart_viewed, http.GET./carts/{cart_id}, http.GET.<unmatched>
"""

from _visiting import visit
from litestar import Litestar, get
from litestar.params import FromPath

import indelible
from indelible.hooks.asgi import Middleware
from indelible.hooks.litestar import tell_error


@get("/carts/{cart_id:int}")
async def cart(cart_id: FromPath[int]) -> dict[str, int]:
    indelible.identify("user_42")  # the request's own event belongs to this person, too
    indelible.capture("cart_viewed")
    return {"cart": cart_id}


app = Middleware(Litestar([cart], after_exception=[tell_error]))

visit(app, "/carts/7", "/nowhere")
print("delivered:", indelible.flush(10))
