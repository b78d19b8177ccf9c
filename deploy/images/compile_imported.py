# A script of the images, in no package.
# ruff: noqa: INP001
"""Compiles what a package imports, and nothing else: compile_imported.py PACKAGE.

An image without bytecode starts slowly in a pod of little CPU; one with all of it is twice as
large. Run while the image is built, with PYTHONPYCACHEPREFIX set to a folder that it keeps.
"""

import importlib
import importlib.util
import pkgutil
import py_compile
import sys
from pathlib import Path


def main() -> None:
    """Imports every module of the package, then compiles all that is loaded."""
    (name,) = sys.argv[1:]
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, prefix=f"{name}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    sources = {getattr(loaded, "__file__", None) or "" for loaded in [*sys.modules.values()]}
    for source in sorted(sources):
        if source.endswith(".py") and Path(source).is_file():
            # Unchecked: files in an image stay as they are, whatever becomes of their times.
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(source, doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    main()
