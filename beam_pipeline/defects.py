"""Whose fault an error is: the program's, which needs a stack, or the machine's and the input's, which needs a line."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path

from beam_pipeline.full_disk import error_chain, is_full_disk
from transforms.remote_errors import is_remote_error

_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(str(_ROOT / package) for package in ("beam_pipeline", "transforms", "region_features"))


def is_defect(error: BaseException) -> bool:
    """Return whether the program itself is to blame, and not the machine (disk, memory, files) or its input.

    An error that a `raise` of ours raised is a message for the user, and so is one of the system or of remote storage.
    Any other came from a line that nobody expected to fail, whatever its class.
    """
    return not is_full_disk(error) and not any(
        isinstance(link, OSError | MemoryError) or is_remote_error(link) or _is_deliberate(link)
        for link in error_chain(error)
    )


def _is_deliberate(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(_OURS):
        return False
    last = frames[-1]
    return linecache.getline(last.filename, last.lineno or 0).lstrip().startswith("raise ")
