"""Record a Litestar application, from outside.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/litestar_app.py

Leaves: http_request, cart_filled, http.POST./carts/{cart_id}
"""

from _visiting import visit
from litestar import Litestar, post
from litestar.params import FromPath

import indelible
from indelible.hooks.asgi import Middleware
from indelible.hooks.litestar import tell_error


@post("/carts/{cart_id:int}")
async def cart(cart_id: FromPath[int]) -> dict[str, int]:
    indelible.set_distinct_id("user_42")  # whose this request is: its own events, too
    indelible.capture("cart_filled")
    return {"cart": cart_id}


app = Middleware(Litestar([cart], after_exception=[tell_error]))

visit(app, "POST /carts/7", "/nowhere")
print("delivered:", indelible.flush(10))
