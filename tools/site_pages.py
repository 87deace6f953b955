"""Hook of MkDocs: pages at the root of the repository become pages of the site, and links between them lead there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
# File at the root -> page of the site.
_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
_NOTICE = "notice.md"
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root."""
    for name, page in _PAGES.items():
        content = rewrite_links((_ROOT / name).read_text(encoding="utf-8"), from_root=True)
        files.append(File.generated(config, page, content=content))
    notice = f"# Notice\n\n{(_ROOT / 'NOTICE').read_text(encoding='utf-8')}"
    files.append(File.generated(config, _NOTICE, content=notice))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead a page's links to the root to the pages that this adds."""
    return rewrite_links(markdown, from_root=False)


def rewrite_links(markdown: str, from_root: bool) -> str:
    """Return a page with links as they are in the site.

    Args:
        markdown: the page as the repository has it.
        from_root: whether it stands at the root of the repository, and not in docs.
    """

    def lead(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        path, mark, anchor = target.partition("#")
        own = path.removeprefix("../") if not from_root else path
        if (from_root or path.startswith("../")) and own in {**_PAGES, "NOTICE": _NOTICE}:
            path = {**_PAGES, "NOTICE": _NOTICE}[own]
        elif from_root:
            path = path.removeprefix("docs/")
        return f"{before}{path}{mark}{anchor}{after}"

    return _LINK.sub(lead, markdown)
