"""What is in the images, and what is not."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.e2e.cluster.images_mbcas import SERVER, SHIM, Image, build


def read(archive: Path) -> tuple[dict[str, str], set[str]]:
    """Returns an image's configuration, and the names of its files."""
    names: set[str] = set()
    with tarfile.open(archive) as outer:

        def blob(described: dict[str, str]) -> str:
            return f"blobs/{described['digest'].replace(':', '/')}"

        def parsed(name: str) -> dict[str, object]:
            member = outer.extractfile(name)
            assert member is not None
            return dict(json.load(member))

        index = json.loads(json.dumps(parsed("index.json")))
        manifest = json.loads(json.dumps(parsed(blob(index["manifests"][0]))))
        for layer in manifest["layers"]:
            content = outer.extractfile(blob(layer))
            assert content is not None
            with tarfile.open(fileobj=content, mode="r|*") as inner:
                names |= {member.name for member in inner}
        config = json.loads(json.dumps(parsed(blob(manifest["config"]))))
    return config["config"], names


@pytest.mark.parametrize(
    ("image", "commands", "absent"),
    [
        (SERVER, {"mbcas-server", "mbcasctl"}, ("mbcas_shim", "mbcas_loadtest")),
        (SHIM, {"mbcas-shim"}, ("numpy", "kubernetes", "mbcas_core", "mbcas_server")),
    ],
    ids=lambda value: value.name if isinstance(value, Image) else "",
)
def test_an_image_has_its_commands_no_installer_and_no_root(
    image: Image, commands: set[str], absent: tuple[str, ...]
) -> None:
    config, names = read(build(image, print))
    packages = {
        part
        for name in names
        if name.startswith(("venv/lib/", "app/")) and "pycache/" not in name
        for part in name.split("/")
    }

    assert config["User"] == "65532:65532"
    assert {Path(n).name for n in names if n.startswith("venv/bin/mbcas")} == commands
    assert not packages & {"pip", "setuptools", *absent}
    assert "etc/pip.conf" not in names
    assert not [name for name in names if name.startswith("wheels/")]
