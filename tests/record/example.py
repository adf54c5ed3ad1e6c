"""The log of three events that docs/reference/formats.md works out by hand."""

from indelible import leaf
from indelible.event import Kind, Lane
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import Signer
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tree import Hashes, leaf_hash, prove_inclusion, root_of
from indelible.record import Audit, Loss, Origin, Product, encode_record

SIGNER = Signer("log.example/indelible", bytes(range(32)))
PAYLOAD_SALT = bytes(range(32))
RECORD_SALT = bytes(range(32, 64))
INDEX = 1

ENTRIES = (
    (
        Kind.PRODUCT,
        b'{"amount": 99.99}',
        Product(distinct_id="user_42", event="purchase_completed", request=Origin(route="/api/e")),
    ),
    (
        Kind.AUDIT,
        '{"order":"ord_1","total":"€ 99"}'.encode(),
        Audit(
            {"type": "success", "event_name": "payment.created"},
            Origin(request_id="r-1"),
            idempotency_key="payment-1",
        ),
    ),
    (
        Kind.LOSS,
        b'{"uuid":"0192f7c0-0000-7000-8000-0000000000ff",'
        b'"process_id":"8d3f1c0b5a2e4f6799b0c1d2e3f4a5b6","counts":{"queue_full":2}}',
        Loss(Lane.PRODUCT, Origin(route="/api/e"), "0192f7c0-0000-7000-8000-0000000000ff"),
    ),
)


def opening(index: int) -> Opening:
    """The opening of one of them."""
    kind, payload, record = ENTRIES[index]
    stored = encode_record(record)
    entry = leaf.encode(
        kind,
        received_at_ms=1_764_000_000_000 + index,
        tx=bytes.fromhex("019ab697e80070008000") + index.to_bytes(6, "big"),
        payload=leaf.commit(PAYLOAD_SALT, leaf.PAYLOAD, payload),
        record=leaf.commit(RECORD_SALT, leaf.RECORD, stored),
    )
    return Opening(entry, payload, PAYLOAD_SALT, stored, RECORD_SALT)


def proof() -> Proof:
    """The portable proof of the audit event."""
    hashes = [leaf_hash(opening(index).leaf_entry) for index in range(len(ENTRIES))]
    head = Checkpoint(SIGNER.key.name, len(hashes), root_of(hashes))
    return Proof(
        INDEX,
        tuple(prove_inclusion(Hashes(hashes), INDEX, len(hashes))),
        SIGNER.sign(head.text),
        opening(INDEX).encode(),
    )
