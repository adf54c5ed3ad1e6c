"""Commitments that another process made are those that the journal would have made."""

from msgspec.structs import replace

from indelible import leaf
from indelible.clock import now_ms
from indelible.event import Kind
from indelible.journal.commitments import Committing
from indelible.journal.contract import Draft
from tests.journal.rig import SqliteRig


def drafts(count: int) -> list[Draft]:
    return [
        Draft(
            project_id=1,
            kind=Kind.PRODUCT,
            received_at_ms=now_ms(),
            payload=b'{"n":%d}' % number,
            record=b'{"event":"e"}',
        )
        for number in range(count)
    ]


def test_each_draft_has_salts_of_its_own_and_they_open_its_commitments() -> None:
    made = [draft.commitments for draft in Committing()(drafts(600))]
    assert 600 == len({each.salts[:32] for each in made if each})
    assert 600 == len({each.salts[32:] for each in made if each})
    for draft, each in zip(drafts(600), made, strict=True):
        assert each is not None
        assert each.payload == leaf.commit(each.salts[:32], leaf.PAYLOAD, draft.payload)
        assert each.record == leaf.commit(each.salts[32:], leaf.RECORD, draft.record)


def test_what_is_stored_is_what_was_committed_to(sqlite: SqliteRig) -> None:
    project_id = sqlite.new_project()
    sent = Committing()([replace(draft, project_id=project_id) for draft in drafts(3)])
    sqlite.journal.append(sent)
    for draft, entry in zip(sent, sqlite.journal.read(project_id, 0, 3), strict=True):
        assert draft.commitments is not None
        assert entry.leaf.payload_commitment == draft.commitments.payload
        assert entry.leaf.record_commitment == draft.commitments.record
        assert (entry.payload_salt or b"") + (entry.record_salt or b"") == draft.commitments.salts
