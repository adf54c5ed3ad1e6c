"""Answers that lead elsewhere, or break off: nothing is sent there, and none is believed."""

import json

import pytest

from indelible.errors import AuditFailed
from tests.client.stub import API_KEY, Behaviour, HangUp, Line, Request, Stub, answers, client_of


def cut_off() -> Behaviour:
    """A sound answer whose header promises more than comes."""

    def behave(line: Line, request: Request) -> None:
        answer = json.dumps(line.stub.take(request)).encode()
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(answer) + 1) + answer)
        raise HangUp

    return behave


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_event_and_no_key_goes_where_a_redirect_leads(stub: Stub, status: int) -> None:
    with Stub() as other:
        stub.usual = answers(status, headers={"Location": f"{other.url}/api/e"})
        with client_of(stub) as client:
            client.capture("first", distinct_id="user_42")
            client.audit.send_async("order.created", {"id": "ord_1"})
            client.flush(1)
            with pytest.raises(AuditFailed):
                client.audit.send("order.paid", {"id": "ord_1"})
            client.doctor()

        assert [] == other.requests
    assert any(f"Bearer {API_KEY}" in one.headers.get("authorization", "") for one in stub.requests)


def test_an_answer_that_was_cut_off_is_not_believed_and_the_event_is_sent_again(stub: Stub) -> None:
    stub.next(cut_off())
    with client_of(stub) as client:
        client.capture("first", distinct_id="user_42")
        assert client.flush(60)

    assert 2 == len(stub.deliveries)
    assert stub.deliveries[0].ids == stub.deliveries[1].ids
    assert 1 == len(stub.stored)
