"""Weights that lie elsewhere as local files: `gs://` for as long as they are needed, `https://` kept in a cache.

The cache is `region-features` in $XDG_CACHE_HOME, or in ~/.cache. An entry is there only when it is whole; it is never
asked for again, so that a run that goes on has the weights it began with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from region_features.download.http import DownloadError, discard, download, forget
from transforms import files

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_HASH = re.compile(r"sha256=([0-9a-fA-F]{64})")


def is_url(uri: str) -> bool:
    """Whether the weights are to be fetched over HTTP."""
    return uri.lower().startswith(("https://", "http://"))


def split_url(uri: str) -> tuple[str, str | None]:
    """The address without its fragment, and the SHA-256 (hex) that `#sha256=...` demands, or None.

    Raises:
        ValueError: plain http from another machine, no host, or another fragment.
    """
    url, _, fragment = uri.partition("#")
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{uri}: expected https://HOST/PATH, got no host")
    if parts.scheme.lower() == "http" and parts.hostname not in _THIS_MACHINE:
        raise ValueError(f"{uri}: expected https://, since what plain http brings may have been changed on the way")
    match = _HASH.fullmatch(fragment)
    if fragment and not match:
        raise ValueError(f"{uri}: expected #sha256= and 64 hex digits after the address, got #{fragment}")
    return url, match[1].lower() if match else None


def pinned(uri: str, sha256: str | None) -> str:
    """The URI such that whoever fetches it gets the file of this hash or an error; only http(s) can say so."""
    return f"{split_url(uri)[0]}#sha256={sha256}" if sha256 and is_url(uri) else uri


def cache_folder() -> str:
    """Where fetched weights are kept on this machine."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "region-features")


def fetch(uri: str, note: Callable[[str], None]) -> str:
    """The local path of weights at an http(s) address, fetched if they are not in the cache yet.

    A cut download goes on where it stopped, also in a later run, if the server's file is still the same one. Processes
    that want the same address wait for the first of them.

    Args:
        uri: the address, `#sha256=HEX` after it to have the content checked.
        note: is told in one line what is fetched, and of every new try.

    Raises:
        DownloadError: it cannot be had, is not of the length the server says, or has another hash; names the address.
        ValueError: no address that weights are fetched from.
        OSError: the cache cannot be written.
    """
    url, wanted = split_url(uri)
    folder = cache_folder()
    os.makedirs(folder, exist_ok=True)
    name = re.sub(r"[^\w.-]", "_", os.path.basename(urlsplit(url).path))[-100:] or "weights"
    entry = os.path.join(folder, f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}")
    with _alone(f"{entry}.lock"):
        if os.path.exists(entry):
            if wanted in (None, files.sha256_of(entry)):
                return entry
            os.remove(entry)  # of an earlier file at this address
        _download(url, wanted, entry, note)
    return entry


def _download(url: str, wanted: str | None, entry: str, note: Callable[[str], None]) -> None:
    part = f"{entry}.part"
    told: dict[str, int | None] = {}

    def progress(have: int, size: int | None) -> None:
        if not told:
            note(f"fetching {url} into {os.path.dirname(entry)}: {have} of {size or 'unknown'} bytes are there")
        told["size"] = size

    download(url, part, progress, note)
    if wanted is None and told.get("size", 0) is None:
        discard(part)
        raise DownloadError(
            f"{url}: the server does not say how long the file is, so a cut one cannot be told; add #sha256=HEX"
        )
    found = files.sha256_of(part)
    if wanted not in (None, found):
        discard(part)
        raise DownloadError(f"{url}: expected SHA-256 {wanted}, got {found}; nothing is kept of it")
    forget(part)
    os.replace(part, entry)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Holds a lock that the system frees when its process ends, however it ends."""
    import fcntl

    with open(path, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """A local path of weights that may lie anywhere, for as long as it is entered.

    Raises:
        OSError: they cannot be read or fetched.
        ValueError: no address that weights are fetched from.
    """
    if is_url(uri):
        yield fetch(uri, _tell)
        return
    if not files.is_remote(uri):
        yield uri
        return
    descriptor, temporary = tempfile.mkstemp(suffix="-" + os.path.basename(uri))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(files.read_bytes(uri))
        yield temporary
    finally:
        os.remove(temporary)


def _tell(line: str) -> None:
    print(f"note: {line}", file=sys.stderr, flush=True)
