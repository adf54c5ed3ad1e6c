"""A Starlette site for a server in a process of its own; its client is made of the environment."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from indelible import default_client
from indelible.hooks.asgi import Middleware
from tests.hooks.shop import Shop

shop = Shop(default_client())


async def hello(_: Request) -> Response:
    return PlainTextResponse(shop.hello())


async def file(_: Request) -> Response:
    return FileResponse(Path(__file__).with_name("contract.py"))


async def stream(_: Request) -> Response:
    return StreamingResponse(shop.achunks())


async def endless(_: Request) -> Response:
    return StreamingResponse(shop.aendless())


routes = [
    Route("/health", hello),
    Route("/file", file),
    Route("/stream", stream),
    Route("/endless", endless),
]
app = Middleware(Starlette(routes=routes), audit_methods=None)
