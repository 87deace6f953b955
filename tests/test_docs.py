"""The documents: links lead somewhere, every page is linked, the README stays short."""

from __future__ import annotations

import os
import re
from pathlib import Path

from beam_pipeline.exports import EXPORTS
from tests.conftest import ROOT
from tools.site_pages import rewrite_links

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MAX_README_LINES = 150
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links within the repository."""
    targets = _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def linked_file(page: Path, target: str) -> Path:
    """Return the file that a link names; a bare anchor names its own page."""
    name = target.partition("#")[0]
    return Path(os.path.normpath(page.parent / name)) if name else page


def test_an_anchor_is_the_heading_as_github_spells_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Limits, and what was not run\n\n```\n# no heading, [no](link.md)\n```\n\n## manifest.json\n")
    assert anchors(page) == {"limits-and-what-was-not-run", "manifestjson"}
    assert links(page) == []


def test_every_link_names_a_file_and_a_heading_of_it() -> None:
    broken, checked = [], 0
    for page in PAGES:
        for target in links(page):
            path, anchor = linked_file(page, target), target.partition("#")[2]
            checked += 1
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.name}: {target}")
    assert checked > 20
    assert broken == []


def test_every_command_names_a_module_of_the_repository() -> None:
    modules = {name for page in PAGES for name in re.findall(r"python -m ([\w.]+\w)", page.read_text(encoding="utf-8"))}
    assert "beam_pipeline.verify" in modules
    files = {name: (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__main__.py") for name in modules}
    assert [name for name, paths in files.items() if not any((ROOT / path).exists() for path in paths)] == []


def test_every_file_of_docs_is_linked_from_another_page() -> None:
    files = {path for path in (ROOT / "docs").iterdir() if path.is_file() and path.suffix != ".css"}
    linked = {path for page in PAGES for target in links(page) if (path := linked_file(page, target)) != page}
    assert len(files) > 5
    assert files - linked == set()


def test_the_reference_has_every_format() -> None:
    page = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
    assert [kind.name for kind in EXPORTS if f"::: {kind.__module__}.{kind.__qualname__}\n" not in page] == []


def test_links_between_root_and_docs_lead_to_pages_of_the_site() -> None:
    root = rewrite_links("[a](docs/flags.md#run) [b](CONTRIBUTING.md#set-up) [c](NOTICE) [d](https://x/docs/a)", True)
    assert root == "[a](flags.md#run) [b](contributing.md#set-up) [c](notice.md) [d](https://x/docs/a)"
    page = rewrite_links("[a](../README.md#coco) [b](flags.md) [c](#here)", False)
    assert page == "[a](index.md#coco) [b](flags.md) [c](#here)"


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
