"""`indelible keys` and `indelible project`."""

from tests.cli.command import assert_refused, at, call, fine
from tests.cli.conftest import Shop
from tests.edge.wire import stay_within_a_month
from tests.world import ADMIN_KEY, API_KEY, ServerProcess, bearer, product


def _reads(server: ServerProcess, secret: str) -> bool:
    return 200 == server.http.get("/v1/events", headers=bearer(secret)).status_code


def test_a_key_is_made_rotated_and_revoked(shop: Shop) -> None:
    here = at(shop.server)
    made = fine("keys", "create", "application", "--label", "shop", *shop.here)
    first, key_id = made.fact("secret"), made.fact("key")
    rotated = call("keys", "rotate", key_id, "--grace", "1h", "--json", *here).json

    assert first.startswith("iml_live_")
    assert _reads(shop.server, first)  # both are valid for the hour
    assert _reads(shop.server, rotated["secret"])

    assert fine("keys", "revoke", key_id, *here).fact("state").startswith("revoked ")
    revoked = call("keys", "revoke", rotated["key"]["id"], "--json", *here).json

    assert revoked["revoked_at"]
    assert not _reads(shop.server, first)
    assert not _reads(shop.server, rotated["secret"])
    assert_refused(call("keys", "revoke", key_id, *here), 2, "not_found")
    assert_refused(call("keys", "rotate", "key/../x", *here), 2, "not_found")
    again = call("keys", "create", "token", *shop.here)
    assert key_id != again.fact("key")
    assert "replaces" in call("keys", "rotate", again.fact("key"), *here).out


def test_a_list_of_keys_has_no_secret(shop: Shop) -> None:
    here = at(shop.server)
    made = call("keys", "create", "admin", "--label", shop.name, "--json", *here).json
    key_id = made["key"]["id"]

    listed = fine("keys", "list", *here).out
    for shown in listed, call("keys", "list", "--json", *here).out:
        assert key_id in shown
        for hidden in (made["secret"], API_KEY, ADMIN_KEY):
            assert hidden not in shown
    (line,) = [line.split() for line in listed.splitlines() if line.startswith(key_id)]
    prefix = f"{made['key']['prefix']}…"
    assert ["admin", "(all)", prefix, "all", "valid", "anywhere", "none", shop.name] == line[1:]

    call("keys", "revoke", key_id, *here)
    assert key_id not in call("keys", "list", *here).out
    assert key_id in call("keys", "list", "--all", *here).out


def test_a_key_is_narrowed_to_the_scopes_that_were_named(shop: Shop) -> None:
    here = at(shop.server)
    made = fine("keys", "create", "application", "--scope", "write", "--scope", "query", *shop.here)

    assert "write, query" == made.fact("scopes")
    assert not _reads(shop.server, made.fact("secret"))
    listed = fine("keys", "list", *here).out.splitlines()
    (line,) = [line.split() for line in listed if line.startswith(made.fact("key"))]
    assert "write,query" == line[4]
    assert "write, read, query" == fine("keys", "create", "application", *shop.here).fact("scopes")
    for wrong in (("token", "write"), ("admin", "read"), ("application", "manage")):
        assert 2 == call("keys", "create", wrong[0], "--scope", wrong[1], *here).code


def test_a_token_gets_a_rate_and_origins_and_loses_them(shop: Shop) -> None:
    here = at(shop.server)
    limits = ("--rate", "0.5", "--burst", "5000", "--origin", "https://*.shop.example")
    made = fine("keys", "create", "token", *limits, *shop.here)
    key_id = made.fact("key")

    assert "0.5/s, 5,000 at once" == made.fact("rate")
    assert "https://*.shop.example" == made.fact("origins")
    (line,) = [
        line for line in fine("keys", "list", *here).out.splitlines() if line.startswith(key_id)
    ]
    assert "https://*.shop.example" in line
    assert "0.5/s, 5,000 at once" in line
    changed = fine("keys", "set", key_id, "--rate", "1200", "--origin", "any", *here)
    assert ("1,200/s, 12,000 at once", "any") == (changed.fact("rate"), changed.fact("origins"))
    assert "none" == fine("keys", "set", key_id, "--rate", "none", *here).fact("rate")

    assert_refused(call("keys", "set", key_id, *here), 2, "called_wrongly")
    assert_refused(call("keys", "set", key_id, "--rate", "many", *here), 2, "called_wrongly")
    refused = call("keys", "set", key_id, "--origin", "shop.example", *here)
    assert_refused(refused, 2, "invalid_parameter")


def test_audit_events_have_a_limit_of_their_own(shop: Shop) -> None:
    said = fine("project", "set", shop.name, "--audit-monthly-limit", "7", *at(shop.server))

    assert ("none", "7") == (said.fact("monthly limit"), said.fact("audit limit"))


def test_a_key_may_be_bound_to_networks(shop: Shop) -> None:
    bound = ("keys", "create", "application", *shop.here, "--json", "--network")

    made = call(*bound, "192.0.2.0/24").json

    assert ["192.0.2.0/24"] == made["key"]["networks"]
    assert not _reads(shop.server, made["secret"])
    wrong = call(*bound, "somewhere")
    assert (2, True) == (wrong.code, "invalid_parameter" in wrong.err)


def test_a_project_has_a_log_a_token_and_a_key_of_its_own(shop: Shop) -> None:
    made = fine("project", "create", f"{shop.name}-1", "--kind", "test", *at(shop.server))
    other = call("project", "create", f"{shop.name}-2", "--json", *at(shop.server)).json

    assert made.fact("API key").startswith("iml_test_")
    assert other["api_key"].startswith("iml_live_")
    for token in (made.fact("token").split()[0], other["token"]):
        sent = shop.server.send(product(api_key=token))
        assert 0 == sent.json()["events"][0]["index"]
    assert_refused(
        call("project", "create", f"{shop.name}-1", *at(shop.server)), 2, "already_exists"
    )


def test_a_project_goes_on_legal_hold_and_off_it(shop: Shop) -> None:
    here = at(shop.server)
    call("project", "set", shop.name, "--retention-days", "30", *here)
    (tx_id,) = shop.send("a")

    held = fine("project", "set", shop.name, "--legal-hold", "on", *here)

    assert ["30 days", "on: nothing is erased"] == [
        held.fact(n) for n in ("retention", "legal hold")
    ]
    listed = fine("project", "list", *here).out.splitlines()
    assert ["legal hold"] == [
        line[line.index("legal") :][:10] for line in listed if shop.name in line
    ]
    assert_refused(call("erase", tx_id, "--yes", *shop.here), 2, "legal_hold")
    assert_refused(call("erase", tx_id, "--dry-run", *shop.here), 2, "legal_hold")
    lifted = call("project", "set", shop.name, "--legal-hold", "off", "--json", *here).json
    assert (False, 30) == (lifted["legal_hold"], lifted["retention_days"])
    assert 1 == call("erase", tx_id, "--yes", "--json", *shop.here).json["erased"]


def test_a_list_of_projects_says_how_much_of_the_month_is_used(shop: Shop) -> None:
    here = at(shop.server)
    stay_within_a_month()
    call("project", "set", shop.name, "--monthly-limit", "1,000", "--bot-policy", "mark", *here)
    shop.send("e")

    listed = fine("project", "list", *here).out
    (line,) = [line.split() for line in listed.splitlines() if line.startswith(shop.name)]
    found = call("project", "list", "--json", *here).json["projects"]
    (one,) = [each for each in found if each["name"] == shop.name]

    # two entries: the event, and the change of the limit
    month = ["1", "of", "1,000", "0"]
    assert ["live", "2", *month, "mark", "for", "ever", shop.token] == line[1:]
    assert (1_000, 1) == (one["monthly_limit"], one["events_this_month"])


def test_a_limit_and_a_policy_are_set_and_taken_away(shop: Shop) -> None:
    here = at(shop.server)

    def change(*arguments: str) -> tuple[int | None, str | None]:
        after = call("project", "set", shop.name, *arguments, "--json", *here).json
        return after["monthly_limit"], after["bot_policy"]

    assert (5, None) == change("--monthly-limit", "5")
    assert (5, "off") == change("--bot-policy", "off")
    assert (None, "off") == change("--monthly-limit", "none")
    assert (None, None) == change("--bot-policy", "none")
    said = fine("project", "set", shop.name, "--bot-policy", "mark", *here)
    assert ("none", "mark") == (said.fact("monthly limit"), said.fact("bot policy"))
    assert_refused(call("project", "set", "nowhere", "--monthly-limit", "5", *here), 2, "not_found")
