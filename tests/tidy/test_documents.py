"""What the documents name exists: links, paths, commands."""

import re
from pathlib import Path

import pytest

from tests.tidy import repository

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```[^\n]*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|\b(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
PATH = re.compile(r"(?<![\w./~$<{-])([\w.-]+(?:/[\w.*-]+)+/?)")

DOCUMENTS = repository.files(".md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    text = FENCE.sub("", repository.read(document))
    links = [a or b for a, b in LINK.findall(text) if not re.match(r"[a-z]+:", a or b)]

    dead = [link for link in links if not _leads_somewhere(document, link)]

    assert not dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    folders = {path.parts[0] for path in repository.files() if len(path.parts) > 1} | {"docs"}
    named = [
        path.rstrip("/.")
        for code in _code(document)
        for path in PATH.findall(code)
        if path.split("/")[0] in folders
    ]

    missing = [path for path in named if not any(repository.ROOT.glob(path))]

    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_make_target_and_task_that_a_document_names_exists(document: Path) -> None:
    tasks = set(repository.project()["tool"]["poe"]["tasks"])
    code = "\n".join(_code(document))

    targets = set(re.findall(r"\bmake(?: -\S+)* ([a-z][a-z0-9-]*)", code))
    named_tasks = set(re.findall(r"\bpoe(?: -\S+)* ([a-z][a-z0-9-]*)", code))

    assert targets <= repository.make_targets()
    assert named_tasks <= tasks


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_program_that_a_document_names_is_installed(document: Path) -> None:
    programs = set(repository.project()["project"]["scripts"])
    code = "\n".join(_code(document))

    named = set(
        re.findall(r"(?:^|\.venv/bin/|\$ )(mbcas[a-z-]*)\b(?![\w./:=])", code, re.MULTILINE)
    )

    assert named - {"mbcas"} <= programs


def test_the_makefile_says_what_each_target_does() -> None:
    makefile = repository.read(Path("Makefile"))

    explained = set(re.findall(r"^([a-z0-9]+):  ## \S", makefile, re.MULTILINE))

    assert explained == repository.make_targets()
    assert explained == set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())


def _code(document: Path) -> list[str]:
    """Lists the blocks and spans of code of a document."""
    return [block or span for block, span in CODE.findall(repository.read(document))]


def _leads_somewhere(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (
        (repository.ROOT / document.parent / name).resolve() if name else repository.ROOT / document
    )
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in _anchors(target.read_text())


def _anchors(text: str) -> set[str]:
    """Returns the anchors that a forge gives to headings."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }
