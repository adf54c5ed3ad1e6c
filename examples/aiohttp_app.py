"""Record an application of aiohttp's server.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/aiohttp_app.py

Leaves: http_request, cart_filled, http.POST./carts/{cart_id}
"""

import asyncio

from _visiting import ask
from aiohttp import web

import indelible
from indelible.hooks.aiohttp import install


async def cart(request: web.Request) -> web.Response:
    indelible.set_distinct_id("user_42")  # whose this request is: its own events, too
    indelible.capture("cart_filled")
    return web.Response(text=f"cart {request.match_info['cart_id']}")


async def main() -> None:
    app = web.Application()
    app.router.add_post("/carts/{cart_id}", cart)
    install(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    await asyncio.to_thread(ask, f"http://{host}:{port}", "POST /carts/7", "/nowhere")
    await runner.cleanup()


asyncio.run(main())
print("delivered:", indelible.flush(10))
