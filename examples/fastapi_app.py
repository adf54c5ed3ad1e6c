"""Record a FastAPI application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/fastapi_app.py

Leaves: http_request, cart_filled, http.POST./shop/carts/{cart_id}
"""

from _visiting import visit
from fastapi import APIRouter, FastAPI

import indelible
from indelible.hooks.asgi import Middleware

router = APIRouter()


@router.post("/carts/{cart_id}")
def cart(cart_id: int) -> dict[str, int]:
    indelible.set_distinct_id("user_42")  # whose this request is: its own events, too
    indelible.capture("cart_filled")
    return {"cart": cart_id}


app = FastAPI()
app.include_router(router, prefix="/shop")
app.add_middleware(Middleware)

visit(app, "POST /shop/carts/7", "POST /shop/carts/none", "/nowhere")
print("delivered:", indelible.flush(10))
