"""Small container images, made without a container engine: one layer, one program."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

BUSYBOX_IMAGE = "localhost/busybox:e2e"


def write_busybox_image(path: Path) -> None:
    """Writes an image with a static busybox, which is pause, load and shell in one.

    Without a command it sleeps until it is told to stop, as the sandbox of a pod does.
    """
    busybox = shutil.which("busybox")
    assert busybox is not None, "installed before"
    program = Path(busybox).resolve().read_bytes()
    layer = _tar({"bin/busybox": program}, links={"bin/sh": "busybox", "pause": "bin/busybox"})
    script = "trap 'exit 0' TERM INT; while :; do /bin/busybox sleep 3600 & wait $!; done"
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/bin/sh", "-c", script], "Env": ["PATH=/bin"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [BUSYBOX_IMAGE], "Layers": ["layer.tar"]}]
    path.write_bytes(
        _tar({"manifest.json": json.dumps(manifest).encode(), name: config, "layer.tar": layer})
    )


def _tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
