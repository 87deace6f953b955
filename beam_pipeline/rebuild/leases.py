"""Leases: readers of a version that must not be deleted meanwhile, each a small file that names it and expires."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from region_features.records.json_text import parse_json
from transforms import files

LEASES_FOLDER = "leases"
LEASE_SECONDS = 300.0
_RENEWAL_SECONDS = 60.0
_SUFFIX = ".json"


@contextlib.contextmanager
def lease_version(root: str, version: str, note: Callable[[str], None]) -> Iterator[None]:
    """Hold a version for as long as the block takes, and at most 5 minutes after the process has died.

    Args:
        root: the folder of the versions.
        version: its name.
        note: called with one line where `root` cannot be written; the block then runs without a lease.
    """
    path = files.join(root, LEASES_FOLDER, f"{version}.{uuid.uuid4().hex}{_SUFFIX}")
    try:
        _write(path)
    except Exception:  # each file system has its own kinds of errors
        note(f"{root} cannot be written: a rebuild with --keep_versions may delete {version} meanwhile")
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, ended), name="version-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(Exception):  # it expires by itself
            files.delete_files([path])


def leased_versions(root: str) -> set[str]:
    """Return the versions that a lease holds now; delete leases that have expired.

    Raises:
        OSError: they cannot be listed, read or deleted.
    """
    folder = files.join(root, LEASES_FOLDER)
    names = [name for name in files.list_folder(folder) if name.endswith(_SUFFIX) and name[:1] != "."]
    held, expired = set(), []
    for name in names:
        path = files.join(folder, name)
        try:
            expires = float(parse_json(files.read_bytes(path))["expires"])
        except FileNotFoundError:  # given up since the folder was listed
            continue
        except (ValueError, KeyError, TypeError, OverflowError):
            expires = 0.0
        if expires > time.time():
            held.add(name.partition(".")[0])
        else:
            expired.append(path)
    files.delete_files(expired)
    return held


def _write(path: str) -> None:
    if not files.is_remote(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "expires": time.time() + LEASE_SECONDS}
    files.publish_bytes(path, [json.dumps(owner).encode()])


def _renew(path: str, ended: threading.Event) -> None:
    while not ended.wait(_RENEWAL_SECONDS):
        with contextlib.suppress(Exception):  # the next renewal comes before the lease ends
            _write(path)
