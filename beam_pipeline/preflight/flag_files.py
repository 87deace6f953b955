"""Files that flags name: read, or refused with the flag, what was expected and what came."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from beam_pipeline.full_disk import is_full_disk
from beam_pipeline.usage import UsageError
from region_features.download.http import shown
from region_features.formats.file_kind import HEAD_BYTES, kind_of_no_text
from region_features.records.coco import CAPTIONS_FILE
from transforms import files

T = TypeVar("T")
BOXES_LINES = 'lines {"img_id": ..., "boxes": [[x1, y1, x2, y2], ...]}'
# What the files hold that are text.
_TEXTS = {
    "--captions": f"captions: {CAPTIONS_FILE}, COCO's captions_*.json, or JSON lines of img_id and sentences",
    "--test1k_ids": "coco ids, one a line",
    "--boxes": BOXES_LINES,
    "--detector_config": "a detectron2 config in YAML",
}


def read_file(action: Callable[[str], T], path: str, flag: str) -> T:
    """Read the file of a flag.

    Raises:
        UsageError: it cannot be read, or is not what the flag takes.
    """
    try:
        return action(path)
    except OSError as error:
        if is_full_disk(error):
            raise
        reason = error.strerror or str(error)
        raise UsageError(f"{flag} {shown(path)}: expected a readable file, got: {reason}; check the path") from error
    except ValueError as error:
        refuse_other_kind(path, flag)
        raise UsageError(f"{flag} {error}" if str(error).startswith(shown(path)) else f"{flag}: {error}") from error


def refuse_other_kind(path: str, flag: str) -> None:
    """Say what kind of file came in place of text, where that is plain; a decoder's words do not tell."""
    if flag not in _TEXTS:
        return
    kind = None
    with contextlib.suppress(OSError), files.open_stream(path) as stream:
        kind = kind_of_no_text(stream.read(HEAD_BYTES))
    if kind:
        raise UsageError(f"{flag} {path}: expected {_TEXTS[flag]}, got {kind}; name another file")
