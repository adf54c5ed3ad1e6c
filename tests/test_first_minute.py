"""What a newcomer does first: send one event of each kind, and read both back."""

from tests.world import World, audit, product


def test_an_event_of_each_kind_is_answered_with_its_index_and_read_back(world: World) -> None:
    sent = world.send(product())
    audited = world.send_audit(audit(), key="order-1")

    assert 200 == sent.status_code
    assert 0 == sent.json()["events"][0]["index"]
    assert 202 == audited.status_code
    assert 1 == audited.json()["index"]
    assert ["product", "audit"] == [event["kind"] for event in world.events()]
