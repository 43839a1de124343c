"""The documents: links lead somewhere, the scripts they name exist, lines are short, the table of imports is true."""

import re

import pytest
from paths import ROOT
from test_imports import MAY_IMPORT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"\bpython3? ([\w./-]+\.py)\b|`([\w/]+\.(?:py|yaml))`")


def prose(path):
    """(number, line) of the lines outside code blocks, indented ones included, and tables."""
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and not line.lstrip().startswith("|") and not line.startswith("    "):
            yield number, line


def anchors(path):
    """The anchors that GitHub gives a document's headings."""
    headings = (line.lstrip("#").strip() for _, line in prose(path) if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(path):
    missing = []
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert not missing


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.name != "EXPERIMENTS.md"],  # history names what is gone
                         ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_exists(path):
    names = {name for pair in FILE.findall(path.read_text(encoding="utf-8")) for name in pair if name}
    modules = {file.name for file in ROOT.glob("*/*.py")}  # a document on one package leaves its name out
    assert {name for name in names if not (ROOT / name).is_file() and name not in modules} == set()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_lines_of_prose_are_under_200_characters(path):
    assert [(number, len(line)) for number, line in prose(path) if len(line) >= 200] == []


def test_the_table_of_imports_is_that_of_the_tests():
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+|nothing) \|$",
                      (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: set(re.findall(r"\w+", others)) - {"nothing"} for name, others in rows} == MAY_IMPORT
