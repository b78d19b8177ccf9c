"""Words that have no place here: other words for what has one, machines, and work left undone."""

import re
from pathlib import Path

from tests.tidy import repository

SYNONYMS = {
    "allotment": "allocation",
    "auction": "market",
    "boost": "emergency",
    "entitlement": "target",
    "mcpu": "millicores",
    "milli-cores": "millicores",
    "millicpu": "millicores",
    "tenant": "pod",
    "upper bound of cpu": "ceiling",
    "vcpu": "core",
}
"""Other words for a concept, and the one that stands for it everywhere."""

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
REGISTRY = re.compile(r"index[-_]url|find[-_]links|@ https?://|GOPROXY=|registry\s*=\s*http")
THIS_FILE = Path(__file__).resolve().relative_to(repository.ROOT)


def test_a_concept_is_called_by_its_one_word() -> None:
    words = "|".join(re.escape(word).replace(r"\ ", r"[ _]") for word in SYNONYMS)
    pattern = re.compile(rf"(?<![a-z])({words})s?(?![a-z])", re.IGNORECASE)

    found = repository.lines_matching(pattern, _texts())

    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    found = repository.lines_matching(UNFINISHED, _texts())

    assert not found, "\n".join(found)


def test_no_file_names_a_folder_of_some_machine() -> None:
    places = [r"/home/[a-z]", r"/Users/[A-Za-z]", re.escape(f"{repository.ROOT}/")]
    if len(Path.home().parts) > 1:
        places.append(re.escape(f"{Path.home()}/"))

    found = repository.lines_matching(re.compile("|".join(places)), _texts())

    assert not found, "\n".join(found)


def test_no_file_names_a_package_registry() -> None:
    found = repository.lines_matching(REGISTRY, _texts())

    assert not found, "\n".join(found)


def _texts() -> tuple[Path, ...]:
    return tuple(path for path in repository.texts() if path not in {THIS_FILE, Path("LICENSE")})
