"""Local copies of weights files: of `gs://` while they are needed, of `https://` in a cache.

The cache is `region-features` in $XDG_CACHE_HOME or ~/.cache. An entry appears when it is whole, and the server is not
asked again whether it changed: a run that is resumed keeps the weights it began with.
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

from filelock import FileLock

from region_features.download.http import DownloadError, discard, download, forget, shown
from transforms import files
from transforms.durable import sync_file
from transforms.input_files import PinnedFile

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_HASH = re.compile(r"sha256=([0-9a-fA-F]{64})")


def is_url(uri: str) -> bool:
    """Whether weights are fetched over HTTP."""
    return uri.lower().startswith(("https://", "http://"))


def split_url(uri: str) -> tuple[str, str | None]:
    """Split an address into the address without its fragment and the hex SHA-256 of `#sha256=...`, None without one.

    Raises:
        ValueError: plain http from another machine, no host, or another fragment.
    """
    url, _, fragment = uri.partition("#")
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{shown(uri)}: expected https://HOST/PATH, got no host")
    if parts.scheme.lower() == "http" and parts.hostname not in _THIS_MACHINE:
        raise ValueError(
            f"{shown(uri)}: expected https://, since what plain http brings may have been changed on the way"
        )
    match = _HASH.fullmatch(fragment)
    if fragment and not match:
        raise ValueError(f"{shown(uri)}: expected #sha256= and 64 hex digits after the address, got #{fragment}")
    return url, match[1].lower() if match else None


def cache_folder() -> str:
    """Return the folder of the cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "region-features")


def fetch(uri: str, note: Callable[[str], None]) -> str:
    """Return the local path of the weights at an http(s) address, downloaded unless they are in the cache.

    A download that was cut is resumed, also in a later run. Processes that want the same address wait for the first.

    Args:
        uri: the address, with `#sha256=HEX` behind it to check the content.
        note: called with one line before the download and before every further try.

    Raises:
        DownloadError: the file cannot be downloaded, is cut, or has another hash; the message names the address.
        ValueError: the address is refused, see `split_url`.
        OSError: the cache cannot be written.
    """
    url, sha256 = split_url(uri)
    folder = cache_folder()
    os.makedirs(folder, exist_ok=True)
    name = re.sub(r"[^\w.-]", "_", os.path.basename(urlsplit(url).path))[-100:] or "weights"
    entry = os.path.join(folder, f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}")
    with FileLock(f"{entry}.lock"):
        if os.path.exists(entry) and sha256 not in (None, files.sha256_of(entry)):
            os.remove(entry)  # an earlier file of this address
        if not os.path.exists(entry):
            _download(url, sha256, entry, note)
    return entry


def _download(url: str, sha256: str | None, entry: str, note: Callable[[str], None]) -> None:
    part = f"{entry}.part"
    noted = False

    def progress(have: int, size: int | None) -> None:
        nonlocal noted
        if not noted:
            note(f"fetching {shown(url)} into {os.path.dirname(entry)}: {have} of {size or 'unknown'} bytes are there")
        noted = True

    size = download(url, part, progress, note)
    if sha256 is None and size is None:
        discard(part)
        raise DownloadError(
            f"{shown(url)}: the server does not say how long the file is, so a cut one cannot be told; add #sha256=HEX"
        )
    actual = files.sha256_of(part) if sha256 else None
    if actual != sha256:
        discard(part)
        raise DownloadError(f"{shown(url)}: expected SHA-256 {sha256}, got {actual}; nothing is kept of it")
    forget(part)
    sync_file(part)
    os.replace(part, entry)


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """Give the local path of weights at any URI; the copy of a remote file is deleted at the end of the block.

    Raises:
        OSError: the weights cannot be read or fetched.
        ValueError: the address is refused, see `split_url`.
    """
    if is_url(uri):
        yield fetch(uri, lambda line: print(f"note: {line}", file=sys.stderr, flush=True))
    elif not files.is_remote(uri):
        yield uri
    else:
        with tempfile.NamedTemporaryFile(suffix="-" + os.path.basename(uri)) as copy:
            copy.write(files.read_bytes(uri))
            copy.flush()
            yield copy.name


@contextlib.contextmanager
def pinned_copy(weights: PinnedFile) -> Iterator[str]:
    """Give the local path of weights that are what was checked, at the start of the block and at its end.

    Raises:
        OSError: the weights cannot be read or fetched.
        ValueError: they were replaced since they were checked.
    """
    # An address fetches what has its hash, whatever the server holds now.
    uri = f"{split_url(weights.uri)[0]}#sha256={weights.sha256}" if is_url(weights.uri) else weights.uri
    with local_copy(uri) as path:
        weights.compare(files.sha256_of(path))
        yield path
        weights.compare(files.sha256_of(path))
