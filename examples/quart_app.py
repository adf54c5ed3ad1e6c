"""Record a Quart application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/quart_app.py

Leaves: http_request, cart_filled, http.POST./carts/<int:cart_id>
"""

from _visiting import visit
from quart import Quart

import indelible
from indelible.hooks.quart import install

app = Quart(__name__)
install(app)


@app.post("/carts/<int:cart_id>")
async def cart(cart_id: int) -> dict[str, int]:
    indelible.set_distinct_id("user_42")  # whose this request is: its own events, too
    indelible.capture("cart_filled")
    return {"cart": cart_id}


visit(app, "POST /carts/7", "/nowhere")
print("delivered:", indelible.flush(10))
