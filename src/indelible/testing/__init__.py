"""For the tests of applications that send events.

    def test_an_order_is_recorded(indelible_events):  # the pytest fixture
        place_order(client=indelible_events.client, amount=99)
        indelible_events.assert_captured("order.created", amount=99)
        indelible_events.assert_audited("order.created", type="success")

`Recorder` is a client whose events are at hand at once; `InMemoryServer` is a server for a test
that needs an address to send to. Both need nothing but the standard library. The fixture is there
wherever Indelible and pytest are installed.
"""

from indelible.testing.recorder import Recorder
from indelible.testing.server import InMemoryServer, Received

__all__ = ["InMemoryServer", "Received", "Recorder"]
