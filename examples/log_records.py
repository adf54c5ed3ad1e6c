"""Make events of the records of one logger.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/log_records.py

Leaves: log_message, log.shop.refunds

The events have the templates, ``no stock of %s``, and neither "sku_1" nor "ord_1".
"""

import logging

from indelible import Indelible
from indelible.hooks.logging import Handler

client = Indelible()

stock = logging.getLogger("shop.stock")
stock.addHandler(Handler(client, level=logging.WARNING))
stock.warning("no stock of %s", "sku_1")

refunds = logging.getLogger("shop.refunds")
refunds.addHandler(Handler(client, lane="audit"))
refunds.error("refund of %s failed", "ord_1")

client.shutdown()
