"""Lists of the files of a folder with their SHA-256, beside the folder, as `sha256sum --check` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from region_features.formats import REMEDY

# The list of `photos/` is `photos.sha256`.
LISTING_SUFFIX = ".sha256"
_LINE = re.compile(r"(\\?)([0-9a-f]{64})  (.+)", re.DOTALL)
# sha256sum begins a line with a backslash where it has escaped these in the name.
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_UNESCAPED = {escaped: character for character, escaped in _ESCAPES.items()}


def encode_listing(folder: str, digests: Mapping[str, str]) -> bytes:
    """Return the list of files directly in a folder.

    Args:
        folder: its name, without `/`.
        digests: file name -> hex SHA-256.
    """
    return "".join(_line(f"{folder}/{name}", digests[name]) for name in sorted(digests)).encode()


def _line(path: str, sha256: str) -> str:
    escaped = re.sub(r"[\\\n\r]", lambda match: _ESCAPES[match[0]], path)
    return f"{'' if escaped == path else chr(92)}{sha256}  {escaped}\n"


def decode_listing(data: bytes, folder: str, source: str) -> dict[str, str]:
    """Read a list back: file name -> hex SHA-256.

    Raises:
        ValueError: a line is none of such a list, or names a file that is not directly in the folder: what is listed
            may be deleted.
    """
    digests = {}
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: expected UTF-8, got the byte {data[error.start]:#04x}; {REMEDY}") from error
    if lines.pop():
        raise ValueError(f"{source}: expected a list of whole lines, and its last one is cut off; {REMEDY}")
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        path = match[3] if match else ""
        if match and match[1]:
            path = re.sub(r"\\[\\nr]", lambda escape: _UNESCAPED[escape[0]], path)
        name = path.removeprefix(f"{folder}/")
        if not match or name == path or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(
                f"{source}, line {number}: expected a SHA-256 and a file directly in {folder}/, got {line[:200]!r}; "
                f"{REMEDY}"
            )
        digests[name] = match[2]
    return digests
