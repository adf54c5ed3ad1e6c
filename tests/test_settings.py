"""Settings: each is explained, none is guessed, and no secret is ever repeated."""

import dataclasses
import traceback
from pathlib import Path
from typing import Any

import pytest

from indelible.client.options import ENVIRONMENT
from indelible.errors import SettingInvalid
from indelible.settings import Settings, old_key_names
from indelible.voice import Format, Level
from tests.world import environment

FIELDS = dataclasses.fields(Settings)
SECRETS = [field for field in FIELDS if field.metadata["secret"]]

UNREADABLE = [
    ("INDELIBLE_LEDGER_ORIGIN", "https://events.example.com/ledger"),
    ("INDELIBLE_LEDGER_ORIGIN", "events.example.com/ledger/"),
    ("INDELIBLE_LEDGER_ORIGIN", "events example"),
    ("INDELIBLE_SEAL_INTERVAL_MS", "0"),
    ("INDELIBLE_WITNESS_INTERVAL_MS", "soon"),
    ("INDELIBLE_SCRUB_BYTES_PER_S", "0"),
    ("INDELIBLE_EDGES", "-1"),
    ("INDELIBLE_EDGES", "65"),
    ("INDELIBLE_EDGES", "all"),
    ("INDELIBLE_METRICS_KEY", "too-short"),
    ("INDELIBLE_METRICS_LISTEN", "9464"),
    ("INDELIBLE_METRICS_LISTEN", ":9464"),
    ("INDELIBLE_METRICS_LISTEN", "127.0.0.1:0"),
    ("INDELIBLE_METRICS_LISTEN", "127.0.0.1:65536"),
    ("INDELIBLE_METRICS_LISTEN", "127.0.0.1:http"),
    ("INDELIBLE_LOG_FORMAT", "xml"),
    ("INDELIBLE_LOG_LEVEL", "INFO "),
    ("INDELIBLE_PORT", "http"),
    ("INDELIBLE_PORT", "-1"),
    ("INDELIBLE_PORT", "65536"),
    ("INDELIBLE_PORT", "80.5"),
    ("INDELIBLE_SERVER_TOKEN", "two words"),
    ("INDELIBLE_SERVER_TOKEN", "schlüssel"),
    ("INDELIBLE_SERVER_TOKEN", "x" * 201),
    ("INDELIBLE_SERVER_API_KEY", "too-short"),
    ("INDELIBLE_SERVER_API_KEY", "has a space inside it"),
    ("INDELIBLE_SERVER_API_KEY", "schlüssel-0123456789"),
    ("INDELIBLE_SERVER_ADMIN_KEY", "fifteen-letters"),
    ("INDELIBLE_SERVER_ADMIN_KEY", "control\x07control\x07control"),
    ("INDELIBLE_TRUSTED_PROXIES", "nowhere"),
    ("INDELIBLE_TRUSTED_PROXIES", "10.0.0.1/8"),
    ("INDELIBLE_MAX_BODY_BYTES", "0"),
    ("INDELIBLE_MAX_BODY_BYTES", "20 MiB"),
    ("INDELIBLE_MAX_EVENT_BYTES", "-1"),
    ("INDELIBLE_MAX_BATCH", "many"),
    ("INDELIBLE_MAX_PAYLOAD_BYTES", "1e3"),
    ("INDELIBLE_MAX_WAITING_BYTES", "0"),
    ("INDELIBLE_MAX_RECEIVING_BYTES", "0"),
    ("INDELIBLE_PRODUCT_MIN_FREE_PERCENT", "-0.1"),
    ("INDELIBLE_PRODUCT_MIN_FREE_PERCENT", "100.1"),
    ("INDELIBLE_AUDIT_MIN_FREE_PERCENT", "nan"),
    ("INDELIBLE_AUDIT_MIN_FREE_PERCENT", "1 %"),
]

READABLE: list[tuple[str, str, str, Any]] = [
    ("INDELIBLE_DATA_DIR", "/srv/events", "data_dir", Path("/srv/events")),
    ("INDELIBLE_LISTEN", "::1", "listen", "::1"),
    ("INDELIBLE_PORT", "0", "port", 0),
    ("INDELIBLE_METRICS_LISTEN", "0.0.0.0:9464", "metrics_listen", ("0.0.0.0", 9464)),
    ("INDELIBLE_METRICS_LISTEN", "[::1]:9464", "metrics_listen", ("::1", 9464)),
    ("INDELIBLE_LOG_FORMAT", "json", "log_format", Format.JSON),
    ("INDELIBLE_LOG_LEVEL", "error", "log_level", Level.ERROR),
    ("INDELIBLE_PORT", "65535", "port", 65535),
    ("INDELIBLE_SERVER_TOKEN", "t", "server_token", "t"),
    ("INDELIBLE_SERVER_API_KEY", "sixteen-letters!", "server_api_key", "sixteen-letters!"),
    ("INDELIBLE_TRUSTED_PROXIES", " ", "trusted_proxies", ()),
    ("INDELIBLE_MAX_BATCH", "1", "max_batch", 1),
    ("INDELIBLE_PRODUCT_MIN_FREE_PERCENT", "100", "product_min_free_percent", 100.0),
    ("INDELIBLE_AUDIT_MIN_FREE_PERCENT", "0.5", "audit_min_free_percent", 0.5),
]


def test_the_list_of_unreadable_values_covers_every_setting_that_can_refuse() -> None:
    anything_goes = {"INDELIBLE_DATA_DIR", "INDELIBLE_LISTEN", "INDELIBLE_WITNESS_POLICY"}
    variables = {field.metadata["variable"] for field in FIELDS}
    assert variables == {variable for variable, _ in UNREADABLE} | anything_goes


@pytest.mark.parametrize(("variable", "text"), UNREADABLE)
def test_an_unreadable_value_refuses_to_start_and_names_its_variable(
    variable: str, text: str
) -> None:
    with pytest.raises(SettingInvalid, match=variable):
        Settings.from_environ({variable: text})


@pytest.mark.parametrize(
    ("variable", "text"),
    [pair for pair in UNREADABLE if pair[0] in {f.metadata["variable"] for f in SECRETS}],
)
def test_a_secret_is_not_repeated_in_the_error_nor_in_what_caused_it(
    variable: str, text: str
) -> None:
    with pytest.raises(SettingInvalid) as caught:
        Settings.from_environ({variable: text})
    assert text not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("variable", "text"), UNREADABLE)
def test_any_other_unreadable_value_is_shown(variable: str, text: str) -> None:
    if variable in {field.metadata["variable"] for field in SECRETS}:
        return
    with pytest.raises(SettingInvalid) as caught:
        Settings.from_environ({variable: text})
    assert text in str(caught.value)


@pytest.mark.parametrize(("variable", "text", "name", "value"), READABLE)
def test_a_readable_value_is_read(variable: str, text: str, name: str, value: Any) -> None:
    assert value == getattr(Settings.from_environ({variable: text}), name)


@pytest.mark.parametrize("variable", ["INDELIBLE_PROT", "INDELIBLE_", "INDELIBLE_port"])
def test_an_unknown_variable_of_ours_refuses_to_start(variable: str) -> None:
    with pytest.raises(SettingInvalid, match=variable) as caught:
        Settings.from_environ({variable: "a value that may be secret"})
    assert "may be secret" not in str(caught.value)


@pytest.mark.parametrize(
    "variable", sorted({variable for each in ENVIRONMENT.values() for variable in each})
)
def test_a_machine_that_is_set_up_for_the_client_can_run_the_server(variable: str) -> None:
    assert Settings() == Settings.from_environ({variable: "a-value-of-the-clients"})


def test_a_misspelt_variable_is_answered_with_the_one_that_is_meant() -> None:
    with pytest.raises(SettingInvalid) as caught:
        Settings.from_environ({"INDELIBLE_MAX_BACH": "10"})
    assert "Did you mean INDELIBLE_MAX_BATCH?" in caught.value.advice


OLD = {
    "INDELIBLE_TOKEN": "an-old-token",
    "INDELIBLE_API_KEY": "an-old-application-key",
    "INDELIBLE_ADMIN_KEY": "an-old-admin-key",
}


def fixed(environ: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    """The keys of the server that an environment fixes."""
    settings = Settings.from_environ(environ)
    return settings.server_token, settings.server_api_key, settings.server_admin_key


def test_the_old_names_of_the_keys_still_fix_them_where_no_client_can_be_meant() -> None:
    assert tuple(OLD.values()) == fixed(OLD)
    (warning,) = old_key_names(OLD).warnings
    for variable, value in OLD.items():
        assert variable in warning
        assert variable.replace("INDELIBLE_", "INDELIBLE_SERVER_") in warning
        assert value not in warning


def test_an_error_in_an_old_name_names_the_variable_that_was_set() -> None:
    with pytest.raises(SettingInvalid, match="INDELIBLE_API_KEY: needs"):
        Settings.from_environ({**OLD, "INDELIBLE_API_KEY": "short"})


@pytest.mark.parametrize("host", ["INDELIBLE_HOST", "VTILT_HOST", "IMTBL_URL"])
@pytest.mark.parametrize("names", [sorted(OLD), ["INDELIBLE_ADMIN_KEY"]], ids=["all", "admin"])
def test_the_keys_of_a_server_elsewhere_never_fix_those_of_this_one(
    host: str, names: list[str]
) -> None:
    environ = {host: "https://events.example.com", **{name: OLD[name] for name in names}}
    assert (None, None, None) == fixed(environ)
    (warning,) = old_key_names(environ).warnings
    assert all(name in warning and OLD[name] not in warning for name in names)


@pytest.mark.parametrize(
    "names",
    [["INDELIBLE_TOKEN"], ["INDELIBLE_API_KEY"], ["INDELIBLE_TOKEN", "INDELIBLE_API_KEY"]],
    ids="+".join,
)
def test_the_keys_of_a_client_whose_host_is_in_its_code_fix_none_of_the_servers(
    names: list[str],
) -> None:
    environ = {name: OLD[name] for name in names}
    assert (None, None, None) == fixed(environ)
    (warning,) = old_key_names(environ).warnings
    assert all(name in warning for name in names)


@pytest.mark.parametrize("name", sorted(OLD))
def test_beside_a_new_name_the_old_ones_are_the_clients_and_nothing_is_said(name: str) -> None:
    new = name.replace("INDELIBLE_", "INDELIBLE_SERVER_")
    environ = {**OLD, new: "this-servers-own-key"}
    assert ["this-servers-own-key"] == [value for value in fixed(environ) if value is not None]
    assert [] == old_key_names(environ).warnings


def test_variables_of_others_are_left_alone() -> None:
    others = {"PATH": "/bin", "PORT": "x", "INDELIBLE_HOST": "http://h", "INDELIBLE_ENV": "test"}
    assert Settings() == Settings.from_environ(others)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_an_empty_variable_means_the_default(field: "dataclasses.Field[Any]") -> None:
    settings = Settings.from_environ({field.metadata["variable"]: ""})
    assert field.default == getattr(settings, field.name)


def test_what_the_command_line_gives_wins_and_what_it_leaves_out_does_not() -> None:
    settings = Settings.from_environ(
        {"INDELIBLE_PORT": "1", "INDELIBLE_LISTEN": "::1"}, {"port": 2, "listen": None}
    )
    assert (2, "::1") == (settings.port, settings.listen)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_setting_is_named_after_its_variable_and_explained(
    field: "dataclasses.Field[Any]",
) -> None:
    assert f"INDELIBLE_{field.name.upper()}" == field.metadata["variable"]
    assert field.metadata["meaning"].endswith(".")
    assert len(field.metadata["meaning"].split()) >= 4


def test_every_key_is_marked_as_a_secret() -> None:
    assert {"server_api_key", "server_admin_key", "metrics_key"} == {
        field.name for field in SECRETS
    }


def test_settings_can_be_printed_without_giving_a_secret_away() -> None:
    settings = Settings.from_environ(environment(INDELIBLE_METRICS_KEY="metrics-key-0123456789"))
    for field in SECRETS:
        assert getattr(settings, field.name) not in repr(settings)
        assert getattr(settings, field.name) not in str(settings)


def test_the_defaults_are_those_of_the_reference() -> None:
    settings = Settings()
    assert 20 * 1024**2 == settings.max_body_bytes
    assert 1024**2 == settings.max_event_bytes
    assert 10_000 == settings.max_batch
    assert 64 * 1024 == settings.max_payload_bytes
    assert (5.0, 1.0) == (settings.product_min_free_percent, settings.audit_min_free_percent)
    assert "127.0.0.1" == settings.listen


@pytest.mark.parametrize("variable", ["MAX_BODY_BYTES", "PORT", "EDGES", "AUDIT_MIN_FREE_PERCENT"])
@pytest.mark.parametrize("text", ["abc", "20MiB", "5%", "1,5"])
def test_what_is_no_number_is_refused_in_words_of_ours(variable: str, text: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        Settings.from_environ({f"INDELIBLE_{variable}": text})

    assert f"INDELIBLE_{variable}={text}: must be a" in refused.value.message
    assert "without a unit" in refused.value.message
