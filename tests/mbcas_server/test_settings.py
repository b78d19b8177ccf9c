"""Where settings come from, and what is said about bad ones."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mbcas_core.events import Mode, Policy, PriorityClass
from mbcas_core.parameters import WORKLOAD_CLASSES, Parameters, PriceResponse
from mbcas_core.presets import PRESETS, Preset
from mbcas_server.annotations import PriorityBounds
from mbcas_server.settings import Settings, SettingsInvalidError, is_local, load_settings


def refusal(*arguments: str) -> str:
    with pytest.raises(SettingsInvalidError) as caught:
        load_settings(list(arguments))
    return str(caught.value)


def test_defaults_are_the_core_s() -> None:
    assert load_settings([]).parameters() == Parameters()


def test_every_parameter_of_the_core_is_a_setting() -> None:
    tables = {"tau", "priority_factor", "elasticity"}
    own_shape = tables | {"class_weight"}
    assert set(Parameters.__dataclass_fields__) - own_shape <= set(Settings.model_fields)
    for key in PriorityClass:
        assert {f"{name}_{key.name.lower()}" for name in tables} <= set(Settings.model_fields)
    assert {f"class_weight_{name}" for name in WORKLOAD_CLASSES} <= set(Settings.model_fields)


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_flag_beats_the_environment_that_beats_the_file_that_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mbcas.yaml"
    path.write_text("band_ratio: 0.2\nreserve_ratio: 0.2\nceiling_overcommit: 2\n")
    monkeypatch.setenv("MBCAS_BAND_RATIO", "0.3")
    monkeypatch.setenv("MBCAS_RESERVE_RATIO", "0.3")

    settings = load_settings(["--config", str(path), "--band-ratio", "0.4"])

    found = (settings.band_ratio, settings.reserve_ratio, settings.ceiling_overcommit)
    assert found == (0.4, 0.3, 2.0)
    assert settings.tick_period_seconds == 1.0


def test_names_become_the_core_s_enums() -> None:
    parameters = load_settings(["--mode", "auto", "--policy", "hard-quota"]).parameters()

    assert (parameters.mode, parameters.policy) == (Mode.AUTO, Policy.HARD_QUOTA)


def test_the_plan_is_a_preset_that_each_setting_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PRESETS[Preset.PLAN]

    assert load_settings(["--preset", "plan"]).parameters() == plan
    assert load_settings(["--preset", "default"]).parameters() == Parameters()

    path = tmp_path / "mbcas.yaml"
    path.write_text("preset: plan\nclass_weight_idle: 1\n")
    monkeypatch.setenv("MBCAS_ELASTICITY_LOW", "0.7")
    settings = load_settings(["--config", str(path), "--price-response", "frozen"])
    assert settings.parameters() == replace(
        plan,
        price_response=PriceResponse.FROZEN,
        class_weight={},
        elasticity=plan.elasticity | {PriorityClass.LOW: 0.7},
    )


def test_what_a_preset_sets_is_said_where_it_is_described() -> None:
    description = Settings.model_fields["preset"].description or ""

    default = load_settings([]).model_dump()
    plan = load_settings(["--preset", "plan"]).model_dump()
    changed = {f"{name}={plan[name]}" for name in plan if plan[name] != default[name]}
    assert changed - {"preset=plan"} == {word for word in changed if word in description}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--round-period-seconds", "9999"], ["round_period_seconds", "1 to 600"]),
        (["--round-period-seconds", "nan"], ["round_period_seconds", "finite"]),
        (["--tau-low", "0.9"], ["tau_low: is 0.9", "0.5"]),
        (["--elasticity-low", "2"], ["elasticity_low: is 2", "0 to 1"]),
        (["--class-weight-idle", "0"], ["class_weight_idle: is 0", "0.01 to 100"]),
        (["--price-response", "on"], ["price_response", "two-pass"]),
        (["--preset", "best"], ["preset", "plan"]),
        (["--listen-address", "0.0.0.0:7443"], ["listen_address", "insecure", "tls_cert"]),
        (["--listen-address", "127.0.0.1:99999"], ["listen_address", "HOST:PORT"]),
        (["--listen-address", ":7443"], ["listen_address", "HOST:PORT"]),
        (["--listen-address", "::1:7443"], ["listen_address", "[IPv6]:PORT"]),
        (["--listen-address", "unix:relative"], ["listen_address", "unix:/PATH"]),
        (["--http-address", "nonsense"], ["http_address", "HOST:PORT"]),
        (["--tls-cert", "a.pem"], ["tls_key", "missing"]),
        (["--tls-client-ca", "a.pem"], ["tls_client_ca", "tls_cert"]),
        (["--mode", "aggressive"], ["mode", "recommend"]),
        (["--max-nodes", "many"], ["max_nodes", "'many'", "integer"]),
        (["--busy-interval-seconds", "0.5"], ["busy_interval_seconds"]),
        (["--max-priority", "highest"], ["max_priority", "'critical', 'normal' or 'low'"]),
        (["--priority-classes", "gold"], ["priority_classes", "NAME=CLASS"]),
        (["--priority-classes", "=low"], ["priority_classes"]),
        (["--priority-classes", "gold=high"], ["priority_classes.gold", "'high'"]),
        (["--config", "nowhere.yaml"], ["config", "nowhere.yaml"]),
    ],
)
def test_a_bad_value_is_refused_by_name_with_what_is_allowed(
    arguments: list[str], words: list[str]
) -> None:
    message = refusal(*arguments)

    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("- 1\n", "mapping"),
        ("a: [\n", "not YAML"),
        ("round_perod_seconds: 5\n", "did you mean round_period_seconds"),
        ("config: other.yaml\n", "must not name another file"),
        ("\x00", "not YAML"),
    ],
)
def test_a_bad_file_is_refused_with_a_hint(tmp_path: Path, content: str, word: str) -> None:
    path = tmp_path / "mbcas.yaml"
    path.write_text(content)

    assert word in refusal("--config", str(path))


def test_priority_classes_are_read_as_pairs_or_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mbcas.yaml"
    path.write_text("max_priority: low\npriority_classes: {gold: critical, tin: low}\n")
    wanted = PriorityBounds(
        max_priority=PriorityClass.LOW,
        of_class={"gold": PriorityClass.CRITICAL, "tin": PriorityClass.LOW},
    )

    from_file = load_settings(["--config", str(path)])
    from_flags = load_settings(
        ["--max-priority", "low", "--priority-classes", "gold=critical, tin=low"]
    )
    monkeypatch.setenv("MBCAS_PRIORITY_CLASSES", "gold=critical,tin=low")
    from_environment = load_settings(["--max-priority", "low"])

    for settings in (from_file, from_flags, from_environment):
        assert settings.priority_bounds() == wanted
    assert Settings().priority_bounds() == PriorityBounds()


def test_all_bad_fields_are_named_at_once() -> None:
    message = refusal("--round-period-seconds", "0", "--band-ratio", "7")

    assert "round_period_seconds" in message
    assert "band_ratio" in message


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/run/mbcas.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("example.org:1", False),
        ("127.0.0.1.example.org:1", False),
        (":7443", False),
    ],
)
def test_only_loopback_and_unix_sockets_are_local(address: str, *, local: bool) -> None:
    assert is_local(address) is local


def test_what_is_printed_names_files_and_not_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret")

    text = load_settings(["--token-file", str(path)]).describe()

    assert str(path) in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--band-ratio", "7"], 2, "band_ratio"),
        (["--no-such-flag"], 2, "--no-such-flag"),
        (["--token-file", "nowhere"], 1, "token_file"),
        (["--http-address", "192.0.2.1:80"], 1, "http_address"),
    ],
)
def test_the_command_exits_with_one_sentence_and_no_traceback(
    arguments: list[str], code: int, word: str
) -> None:
    ports = ["--listen-address", "127.0.0.1:0", "--http-address", ""]

    done = subprocess.run(
        [sys.executable, "-m", "mbcas_server", *ports, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr
