"""Record a FastAPI application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/fastapi_app.py

Leaves: http_request, $identify, cart_viewed, http.GET./shop/carts/{cart_id}, http.GET.<unmatched>
"""

from _visiting import visit
from fastapi import APIRouter, FastAPI

import indelible
from indelible.hooks.asgi import Middleware

router = APIRouter()


@router.get("/carts/{cart_id}")
def cart(cart_id: int) -> dict[str, int]:
    indelible.identify("user_42")  # the request's own event belongs to this person, too
    indelible.capture("cart_viewed")
    return {"cart": cart_id}


app = FastAPI()
app.include_router(router, prefix="/shop")
app.add_middleware(Middleware)

visit(app, "/shop/carts/7", "/shop/carts/none", "/nowhere")
print("delivered:", indelible.flush(10))
