"""Loads a YAML file that a person wrote."""

from pathlib import Path
from typing import Any

import yaml

from mbcas_shim.errors import ConfigurationError

_MAX_BYTES = 1 << 20  # A thousand containers take about 200 kB.


def load_mapping(path: Path) -> dict[str, Any]:
    """Loads a file that must be one mapping with string keys, none of them twice.

    Raises:
        ConfigurationError: It is missing, too large or something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigurationError(f"{path}: larger than {_MAX_BYTES} bytes")
        loaded = yaml.load(text, _Loader)  # noqa: S506  # The loader is a SafeLoader.
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: is not valid YAML: {words}") from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ConfigurationError(f"{path}: must be a mapping of names to values")
    return loaded


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # The signature is PyYAML's.
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"{key!r} is given twice in the mapping at line {line}")
        return super().construct_mapping(node, deep)
