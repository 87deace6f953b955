"""What a file is by its first bytes, for messages on one that came in place of another."""

from __future__ import annotations

HEAD_BYTES = 64  # enough to tell the kinds apart
# First bytes in lower case.
_KINDS = (
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML, which servers send in place of a file"),
    (b"version https://git-lfs", "a git-lfs pointer: fetch the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89png\r\n\x1a\n", "a PNG image"),
    (b"gif8", "a GIF image"),
    (b"%pdf", "a PDF"),
)
_ARCHIVE = b"pk\x03\x04"


def kind_of(head: bytes) -> str | None:
    """Name a file that is often given in place of another; None for any other, a zip archive among them.

    Args:
        head: its first `HEAD_BYTES` bytes.
    """
    start = head.lstrip().lower()
    return next((kind for first, kind in _KINDS if start.startswith(first)), None)


def kind_of_no_text(head: bytes) -> str | None:
    """Name a file that is given where text is expected; None for text, and where nothing is known."""
    if not head:
        return "an empty file"
    if head.lower().startswith(_ARCHIVE):
        return "a zip archive: unpack it"
    return kind_of(head) or ("a binary file" if b"\0" in head else None)
