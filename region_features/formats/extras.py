"""Packages that only some formats need; the extra `formats` brings them."""

from __future__ import annotations

import importlib
from typing import Any


def import_extra(module: str) -> Any:
    """Import a package of the extra `formats`.

    Raises:
        ImportError: it is not installed; says in one line how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{module} not installed: expected the extra `formats`; pip install 'region-features[formats]'"
        ) from error
