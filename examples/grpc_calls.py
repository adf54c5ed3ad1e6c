"""Record the calls that a gRPC server takes.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/grpc_calls.py

Leaves: rpc_call

The handler takes and gives bytes, so that nothing needs to be generated for this example.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc

from indelible import Indelible
from indelible.hooks.grpc import Interceptor


def get(request: bytes, _: grpc.ServicerContext) -> bytes:
    return b"order " + request


client = Indelible()
server = grpc.server(ThreadPoolExecutor(4), interceptors=[Interceptor(client)])
methods = {"Get": grpc.unary_unary_rpc_method_handler(get)}
orders = grpc.method_handlers_generic_handler("shop.Orders", methods)
server.add_generic_rpc_handlers([orders])
port = server.add_insecure_port("127.0.0.1:0")
server.start()

with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    print(channel.unary_unary("/shop.Orders/Get")(b"ord_1").decode())
    with contextlib.suppress(grpc.RpcError):
        channel.unary_unary("/shop.Orders/Nothing")(b"")

server.stop(1).wait()
client.shutdown()
