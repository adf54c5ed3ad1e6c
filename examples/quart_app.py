"""Record a Quart application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/quart_app.py

Leaves: http_request, $identify, cart_viewed, http.GET./carts/<int:cart_id>, http.GET.<unmatched>
"""

from _visiting import visit
from quart import Quart

import indelible
from indelible.hooks.quart import install

app = Quart(__name__)
install(app)


@app.get("/carts/<int:cart_id>")
async def cart(cart_id: int) -> dict[str, int]:
    indelible.identify("user_42")  # the request's own event belongs to this person, too
    indelible.capture("cart_viewed")
    return {"cart": cart_id}


visit(app, "/carts/7", "/nowhere")
print("delivered:", indelible.flush(10))
