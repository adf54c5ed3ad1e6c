"""The follower that learns schemas: one log gives one schema, however it is cut."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from indelible.event import Kind, Lane
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.follow import Run
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.quality import schema
from indelible.quality.contract import Contract, PropertyRule
from indelible.quality.learning import CONTRACT_DROPPED, CONTRACT_SET, Learning
from indelible.quality.schema import EventSchema
from indelible.quality.schemas import SCHEMA_FILE
from indelible.registry.registry import Registry
from tests.journal.contract import NEW_YEAR_MS, ManualClock


def product(
    name: str = "e",
    properties: Any = None,
    *,
    at_ms: int = NEW_YEAR_MS,
    payload: bytes | None = None,
    person: Any = None,
) -> Draft:
    """A product event as the edge stores it; `person` is its `$set`."""
    said = {"event": name, "distinct_id": "d", "request": {}}
    if person is not None:
        said["$set"] = person
    content = json.dumps({} if properties is None else properties).encode()
    return Draft(0, Kind.PRODUCT, at_ms, payload or content, json.dumps(said).encode())


def audit(payload: str = "{}", *, at_ms: int = NEW_YEAR_MS, **meta: str) -> Draft:
    """An audit event as the edge stores it."""
    record = {"meta": {"type": "info", **meta}, "request": {}}
    return Draft(0, Kind.AUDIT, at_ms, payload.encode(), json.dumps(record).encode(), Lane.AUDIT)


@dataclass
class School:
    """A journal with two projects, and what is learned of them, in a folder."""

    folder: Path

    def __post_init__(self) -> None:
        clock = ManualClock(NEW_YEAR_MS)
        self.journal = SqliteJournal(Database(self.folder / "journal.db"), clock=clock)
        self.registry = Registry(RegistryTables(self.journal), clock=clock)
        for name in ("p", "q"):
            if name not in self.registry.snapshot.projects:
                self.registry.projects.create(name)
        self.project = self.registry.snapshot.project("p").id
        self.neighbour = self.registry.snapshot.project("q").id
        self.open()

    def open(self) -> None:
        self.learning = Learning(
            self.folder, journal=self.journal, projects=lambda: [self.project, self.neighbour]
        )

    def reopen(self) -> None:
        """What a restart of the process does."""
        self.learning.close()
        self.open()

    def rebuild(self) -> None:
        """Remove the file, and learn everything again."""
        self.learning.close()
        for file in self.folder.glob(f"{SCHEMA_FILE}*"):
            file.unlink()
        self.open()
        self.learn()

    def store(self, drafts: Sequence[Draft], project: int | None = None) -> None:
        mine = [
            Draft(project or self.project, d.kind, d.received_at_ms, d.payload, d.record, d.lane)
            for d in drafts
        ]
        self.journal.append(mine)

    def agree(self, contract: Contract | None, name: str = "e", kind: str = "product") -> None:
        """Set a contract, or drop it, as the API does."""
        fact = {"kind": kind, "event": name}
        project = self.registry.snapshot.project("p")
        if contract is None:
            self.registry.change(CONTRACT_DROPPED, fact, log=project.log)
        else:
            with_it = {**fact, "contract": to_builtins(contract)}
            self.registry.change(CONTRACT_SET, with_it, log=project.log)

    def learn(self, *ends: int) -> None:
        """Learn what is stored, in stretches that end at these indexes and at the end."""
        for end in (*ends, self.journal.next_index(self.project)):
            start = self.learning.next_index(self.project)
            if start < end:
                assert {} == self.learning.handle_group([Run(self.project, start, end)])
        self.learning._follower.catch_up()

    def event(self, name: str = "e", kind: Kind = Kind.PRODUCT) -> EventSchema:
        found = self.learning.schemas.event(self.project, kind, name)
        assert found is not None
        return found

    def everything(self) -> Any:
        """All that the schemas say of both projects."""
        schemas, said = self.learning.schemas, []
        for project in (self.project, self.neighbour):
            said.append(to_builtins(schemas.lanes(project)))
            for listed in schemas.page(project, kind=None, after=None, limit=10_000):
                kind = Kind[listed.kind.upper()]
                said += [
                    to_builtins(listed),
                    to_builtins(schemas.event(project, kind, listed.name)),
                    to_builtins(schemas.contract(project, kind, listed.name)),
                ]
        return said

    def close(self) -> None:
        self.learning.close()
        self.journal.close()


@contextmanager
def opened(folder: Path) -> Iterator[School]:
    school = School(folder)
    try:
        yield school
    finally:
        school.close()


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    with opened(tmp_path) as school:
        yield school


def test_an_event_is_learned_with_its_properties_their_types_shares_and_shapes(
    school: School,
) -> None:
    school.store(
        [
            product(properties={"plan": "pro", "cart": {"total": 12}}, at_ms=NEW_YEAR_MS),
            product(properties={"plan": None, "ok": True}, at_ms=NEW_YEAR_MS + 1_000),
            product("other", {"$set": {"age": 7}}, person={"email": "jane@example.com"}),
            audit('{"order": 7}', event_name="order.created", service="shop"),
            audit("plain", type="warning"),
        ]
    )
    school.learn()

    event = school.event()
    assert (2, 2, 0, 1) == (event.count, event.looked, event.first.index, event.last.index)
    assert {"plan", "cart", "cart.total", "ok"} == event.properties.keys()
    plan = event.properties["plan"]
    assert (2, {"text": 1, "null": 1}) == (plan.seen, plan.types)
    assert {"x (2-3)": 1} == plan.shapes
    assert {"10..100": 1} == event.properties["cart.total"].shapes
    assert 1 == event.properties["ok"].first.index
    person = school.event("other").properties
    assert {"a***@*** (16-31)": 1} == person["$set.email"].shapes
    assert {"$set", "$set.age", "$set.email"} == person.keys()
    order = school.event("order.created", Kind.AUDIT)
    assert {"payload.order", "meta.type", "meta.service"} == order.properties.keys()
    assert 1 == school.event("warning", Kind.AUDIT).count


STEPS = st.lists(
    st.one_of(
        st.builds(
            product,
            st.sampled_from(["e", "f", "order 12345", "order 99999", "jane@example.com"]),
            st.dictionaries(
                st.sampled_from(["a", "b", "c.d", "mail@example.com"]),
                st.sampled_from([None, 1, -2.5, "pro", "2026-01-01", True, [1, "x"], {"y": {}}]),
            ),
            at_ms=st.integers(0, 3_000).map(lambda ms: NEW_YEAR_MS + ms),
        ),
        st.builds(audit, st.sampled_from(["{}", "text", '{"a": 1}']), event_name=st.just("e")),
        st.sampled_from(
            [
                Contract({"a": PropertyRule(type="number", required=True)}, extra=False),
                Contract({"b": PropertyRule(values=["pro"])}),
                None,
            ]
        ),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=STEPS, data=st.data())
def test_one_log_gives_one_schema_however_it_is_cut_restarted_or_rebuilt(
    steps: list[Draft | Contract | None], data: st.DataObject
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        with opened(folder) as school:
            for step in steps:
                if isinstance(step, Draft):
                    school.store([step])
                    school.store([step], school.neighbour)
                else:
                    school.agree(step)
            ends = data.draw(st.lists(st.integers(1, len(steps)), max_size=6).map(sorted))
            for end in ends:
                school.learn(end)
                if data.draw(st.booleans()):
                    school.reopen()
            school.learn()
            in_pieces = school.everything()
            school.rebuild()

            assert in_pieces == school.everything()
    finally:
        shutil.rmtree(folder)


def test_a_stretch_that_is_handed_over_again_is_learned_once(school: School) -> None:
    school.store([product() for _ in range(5)])
    school.learn()
    before = school.everything()
    assert {} == school.learning.handle_group([Run(school.project, 0, 5)])
    assert before == school.everything()


def test_of_a_busy_event_some_are_looked_into_and_all_are_counted(school: School) -> None:
    busy = [product(properties={"n": n}, at_ms=NEW_YEAR_MS + 4 * n) for n in range(500)]
    school.store([*busy, product("rare", {"n": 1}, at_ms=NEW_YEAR_MS + 1_999)])
    school.learn()

    event = school.event()  # it was there in two seconds
    assert (500, 2 * schema.LOOKED_OF_NAME) == (event.count, event.looked)
    assert event.looked == event.properties["n"].seen
    assert 1 == school.event("rare").looked


def test_a_flood_of_names_is_bounded_counted_and_keeps_no_room_of_audit_events(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.quality.book.MAX_EVENTS", 10)
    school.store([product(f"name {chr(97 + n)}") for n in range(20)])
    school.store([product("name a"), audit(event_name="order.created")])
    school.learn()

    lanes = school.learning.schemas.lanes(school.project)
    assert (10, 10) == (lanes[Kind.PRODUCT].events, lanes[Kind.PRODUCT].left_out)
    assert (1, 0) == (lanes[Kind.AUDIT].events, lanes[Kind.AUDIT].left_out)
    assert 2 == school.event("name a").count


def test_properties_are_bounded_for_an_event_and_for_a_lane(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.quality.book.MAX_PROPERTIES_OF_EVENT", 20)
    monkeypatch.setattr("indelible.quality.book.MAX_PROPERTIES", 30)
    names = {"k" + "x" * n: 1 for n in range(25)}
    school.store([product("e", names), product("f", names), product("e", {"kx": 2})])
    school.learn()

    assert (20, 5) == (len(school.event("e").properties), school.event("e").left_out)
    assert (10, 15) == (len(school.event("f").properties), school.event("f").left_out)
    assert 30 == school.learning.schemas.lanes(school.project)[Kind.PRODUCT].properties


def test_hostile_events_are_learned_within_bounds(school: School) -> None:
    many = {f"p{chr(97 + n % 26)}{'x' * (n // 26)}": n for n in range(10_000)}
    deep = b'{"a":' * 30 + b"1" + b"}" * 30
    school.store(
        [
            product("many", dict(list(many.items())[:900])),
            product("deep", payload=deep),
            product("large", {"text": "x" * (1 << 20)}),
            product("person", person={"bio": "y" * (1 << 20)}),
            product("strange", {"a.b": 1, "a[0]": 2, "nul\0": 3, "\u202e": 4, "n" * 200: 5}),
            product("caf\u00e9", {"caf\u00e9": 1}),
            product("cafe\u0301", {"cafe\u0301": 1}),
            product("n" * 200),
            product("nul\0name"),
            product("php", payload=b"[]"),
            audit("{" * 100_000, event_name="x" * 1_024),
            audit(json.dumps(many), event_name="e"),
        ]
    )
    school.learn()
    found = {
        (one.name, one.kind): one
        for one in school.learning.schemas.page(school.project, kind=None, after=None, limit=99)
    }

    assert 12 == len(found)
    assert 1 == school.event("large").too_large == school.event("person").too_large
    assert (schema.MAX_PROPERTIES_OF_EVENT, 1) == (
        len(school.event("many").properties),
        school.event("many").cut,
    )
    assert {"a", "a.a", "a.a.a", "a.a.a.a"} == school.event("deep").properties.keys()
    assert 5 == len(school.event("strange").properties)
    assert {} == school.event("php").properties
    assert 1 == school.event("nul\0name").count
    assert {("caf\u00e9", "product"), ("cafe\u0301", "product"), ("{x…}", "audit")} <= found.keys()
    school.rebuild()
    assert 12 == len(school.learning.schemas.page(school.project, kind=None, after=None, limit=99))


def test_names_that_look_like_values_are_one_property_and_one_event(school: School) -> None:
    mails = {f"{name}@example.com": True for name in ("jane", "john", "ann")}
    school.store([product("order 4411234 paid", mails), product("order 991 paid", {"1": 1})])
    school.store([product("order 5511234 paid", mails)])
    school.learn()

    event = school.event("{x 9 x}")
    assert 2 == event.count
    assert {'"{a***@***}"'} == event.properties.keys()
    assert (2, {"bool": 2}) == (event.properties['"{a***@***}"'].seen, {"bool": 2})


def test_what_is_erased_before_it_is_learned_is_counted_and_leaves_nothing(school: School) -> None:
    school.store([product("seen", {"secret": 1}), product("other")])
    school.journal.erase(school.project, [0], reason="request", received_at_ms=NEW_YEAR_MS)
    school.learn()

    schemas = school.learning.schemas
    assert ["other"] == [
        one.name for one in schemas.page(school.project, kind=None, after=None, limit=9)
    ]
    assert 1 == schemas.lanes(school.project)[Kind.PRODUCT].erased
    assert b"secret" not in (school.folder / SCHEMA_FILE).read_bytes()


def test_no_value_of_an_event_is_in_the_file(school: School) -> None:
    school.store(
        [
            product("e", {"name": "Annabelle", "tags": ["Quixote"], "jane@example.com": "Rhubarb"}),
            product("jane@example.com", person={"city": "Valparaiso"}),
            audit('{"iban": "DE44500105175407324931"}', actor="Bartleby", event_name="e"),
        ]
    )
    school.learn()
    school.learning.close()
    school.open()

    text = b"".join(file.read_bytes() for file in school.folder.glob(f"{SCHEMA_FILE}*"))
    for value in (b"Anna", b"Quix", b"Rhub", b"jane", b"Valp", b"DE44", b"Bart", b"example"):
        assert value not in text
    assert b"iban" in text


def test_a_contract_holds_from_its_entry_on_and_is_counted_by_rule(school: School) -> None:
    school.store([product(properties={}), product(properties={"plan": 1})])
    school.agree(Contract({"plan": PropertyRule(type="text", required=True)}, extra=False))
    for n, properties in enumerate(({}, {"plan": 1}, {"plan": "pro", "x": 1}, {"plan": "pro"})):
        school.store([product(properties=properties, at_ms=NEW_YEAR_MS + n)])
    school.learn()

    held = school.learning.schemas.contract(school.project, Kind.PRODUCT, "e")
    assert held is not None
    assert (2, 4, 3) == (held.since.index, held.checked, held.unfit)
    assert {"required plan": 1, "type plan": 1, "extra x": 1} == {
        rule: unfit.count for rule, unfit in held.rules.items()
    }
    (entry,) = school.journal.read(school.project, 4, 5)
    assert [entry.leaf.tx] == held.rules["type plan"].tx_ids

    school.agree(Contract({"plan": PropertyRule()}))
    school.store([product(properties={})])
    school.learn()
    held = school.learning.schemas.contract(school.project, Kind.PRODUCT, "e")
    assert held is not None
    assert (7, 1, 0) == (held.since.index, held.checked, held.unfit)

    school.agree(None)
    school.learn()
    assert school.learning.schemas.contract(school.project, Kind.PRODUCT, "e") is None


def test_an_event_without_traffic_may_have_a_contract(school: School) -> None:
    school.agree(Contract({"a": PropertyRule()}), "later", "audit")
    school.learn()

    (listed,) = school.learning.schemas.page(school.project, kind=None, after=None, limit=9)
    assert ("later", "audit", 0, None, 0) == (
        listed.name,
        listed.kind,
        listed.count,
        listed.first_ms,
        listed.checked,
    )


def test_contracts_of_a_project_are_bounded(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.quality.book.MAX_CONTRACTS", 2)
    for name in ("a", "b", "c"):
        school.agree(Contract({"p": PropertyRule()}), name)
    school.learn()
    assert 2 == school.learning.schemas.contracts(school.project)


def test_a_damaged_file_is_made_again_and_another_journals_is_not_believed(
    school: School, tmp_path: Path
) -> None:
    school.store([product() for _ in range(3)])
    school.learn()
    school.learning.close()
    (school.folder / SCHEMA_FILE).write_bytes(b"no database" * 1_000)
    school.open()
    school.learn()
    assert 3 == school.event().count

    other = tmp_path / "other"
    other.mkdir()
    school.learning.close()
    shutil.copy(school.folder / SCHEMA_FILE, other / SCHEMA_FILE)
    school.open()
    with opened(other) as elsewhere:
        elsewhere.store([product("another")])
        elsewhere.learn()
        assert 1 == elsewhere.event("another").count
        assert elsewhere.learning.schemas.event(elsewhere.project, Kind.PRODUCT, "e") is None
