"""Record the tasks that Celery runs.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/celery_tasks.py

Leaves: order_paid, task_run

Here broker and worker live in this process and end with it; `install` is the same in a real one.
"""

from celery import Celery
from celery.contrib.testing.worker import start_worker

from indelible import Indelible
from indelible.client import context
from indelible.hooks.celery import install

client = Indelible()
install(client)

app = Celery("shop", broker="memory://", backend="cache+memory://")


@app.task(name="shop.pay")
def pay(order: str) -> str:
    # Belongs to user_42, who sent the task: the context travels with the message.
    client.capture("order_paid", properties={"order": order})
    return f"{order} is paid"


with (
    start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"),
    context.bound(distinct_id="user_42"),
):
    print(pay.delay("ord_1").get(timeout=10))

client.shutdown()
