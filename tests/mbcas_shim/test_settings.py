from pathlib import Path

import pytest

from mbcas_shim.__main__ import run
from mbcas_shim.errors import ConfigurationError
from mbcas_shim.settings import Settings, read_settings, read_token

FILE = "--containers-file=/c.yaml"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MBCAS_{name.upper()}", raising=False)


def test_flags_win_over_environment_over_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "shim.yaml"
    config.write_text("node_name: file\nlog_level: debug\nserver_address: localhost:1\n")
    monkeypatch.setenv("MBCAS_CONFIG", str(config))
    monkeypatch.setenv("MBCAS_NODE_NAME", "environment")
    monkeypatch.setenv("MBCAS_LOG_LEVEL", "warning")

    settings = read_settings([FILE, "--node-name=flag"])

    assert settings.node_name == "flag"
    assert settings.log_level == "warning"
    assert settings.server_address == "localhost:1"
    assert settings.failsafe_after_seconds == 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "containers_file: exactly one is needed: --containers-file FILE, or --kubernetes"),
        ([FILE, "--kubernetes"], "exactly one is needed"),
        ([FILE, "--failsafe-after-seconds=0"], "failsafe_after_seconds: .*found '0'; set"),
        ([FILE, "--failsafe-after-seconds=nan"], "failsafe_after_seconds"),
        ([FILE, "--server-address=10.0.0.1:7443"], "pass --insecure"),
        ([FILE, "--server-address=example.org:7443"], "pass --insecure"),
        ([FILE, "--server-address=10.0.0.1:1", "--insecure", "--token-file=/t"], "token_file: the"),
        ([FILE, "--node-name="], "node_name"),
        ([FILE, "--config=/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
    ],
)
def test_a_bad_setting_is_an_error_with_its_name_and_the_remedy(
    arguments: list[str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_settings(arguments)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7443", "[::1]:7443", "localhost:1", "unix:/run/mbcas.sock"]
)
def test_plain_text_is_allowed_on_this_machine(address: str) -> None:
    assert read_settings([FILE, f"--server-address={address}"]).server_address == address


def test_a_server_elsewhere_is_allowed_where_its_authority_is_known() -> None:
    given = ["--server-address=10.0.0.1:7443", "--server-ca=/ca.pem", "--token-file=/token"]

    assert read_settings([FILE, *given]).server_ca == Path("/ca.pem")


def test_plain_text_elsewhere_needs_to_be_asked_for() -> None:
    settings = read_settings([FILE, "--server-address=10.0.0.1:7443", "--insecure"])

    assert settings.insecure


def test_an_unknown_name_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    config = tmp_path / "shim.yaml"
    config.write_text("colour: red\n")

    with pytest.raises(ConfigurationError, match=f"colour: {config} has a setting of this name"):
        read_settings([FILE, f"--config={config}"])


def test_help_documents_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description is not None
        assert " ".join(field.description.split())[:20] in text


def test_bad_settings_end_the_process_with_2_and_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run([])

    errors = capsys.readouterr().err
    assert code == 2
    assert "containers_file: exactly one is needed" in errors
    assert "Traceback" not in errors


def test_an_unusable_containers_file_ends_the_process_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = run(["--containers-file=/nowhere.yaml", f"--cgroup-root={tmp_path}"])

    assert code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\xff"])
def test_a_token_that_cannot_stand_in_a_header_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="token_file"):
        read_token(path)
