"""PATCH with application/apply-patch+yaml: whoever applies owns just what it applies."""

from copy import deepcopy

from tests.kube.errors import ApiError, Cause
from tests.kube.managed_fields import Owner, Path, owners_of, paths_of, write_owners
from tests.kube.patching import merged_by_keys
from tests.kube.store import Object
from tests.kube.wire import Json


def applied(old: Object, intent: Object, writer: Owner, *, force: bool) -> Object:
    """Returns the object after an apply.

    Raises:
        ApiError: 409, a field with another value is somebody else's.
    """
    before, wanted = paths_of(old), paths_of(intent)
    owners = owners_of(old)
    changed = {path for path, value in wanted.items() if path in before and before[path] != value}
    causes = tuple(
        Cause("FieldManagerConflict", _dotted(path), f'conflict with "{owner.manager}"')
        for owner in owners
        if owner.key != writer.key
        for path in sorted(owner.paths & changed)
    )
    if causes and not force:
        raise ApiError(409, f"Apply failed with {len(causes)} conflicts", causes=causes)
    own = next((owner for owner in owners if owner.key == writer.key), None)
    dropped: set[Path] = (own.paths - wanted.keys()) if own else set()
    others: set[Path] = set().union(*(each.paths for each in owners if each is not own))
    result = merged_by_keys(deepcopy(old), intent)
    for path in sorted(dropped - others, key=len, reverse=True):
        if path[-1] != "." and not any(part.startswith("k:") for part in path):
            _remove(result, path)
    for owner in owners:
        owner.paths -= changed
        if owner is own:
            owner.paths &= wanted.keys()
        owner.paths -= dropped - others
    write_owners(result, owners, writer, {path for path in wanted if path[-1] != "."})
    return result


def _dotted(path: Path) -> str:
    return "." + ".".join(part.removeprefix("f:") for part in path)


def _remove(document: Json, path: Path) -> None:
    *parents, last = [part.removeprefix("f:") for part in path]
    for part in parents:
        document = document.get(part, {})
    document.pop(last, None)
