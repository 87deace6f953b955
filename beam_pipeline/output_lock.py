"""One run at a time writes to an output folder: a file lock on a local disk, a leased object on gs://."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from beam_pipeline.progress.console import console
from beam_pipeline.usage import UsageError
from region_features.records.json_text import parse_json
from transforms import files
from transforms.beam_private import gcs_client
from transforms.remote_errors import as_os_errors

LOCK = f"{files.TEMP_PREFIX}lock"
LOCK_FILES = (LOCK, f"{LOCK}.owner")
LEASE_SECONDS = 300.0
_HEARTBEAT_SECONDS = 60.0


@contextlib.contextmanager
def lock_output(output: str, flag: str = "--output ") -> Iterator[None]:
    """Hold a folder for as long as the block takes; other file systems than these two have no lock.

    Args:
        output: the folder.
        flag: what stands before it in messages.

    Raises:
        UsageError: another run holds it, and which; or the folder cannot be made.
    """
    if output.startswith("gs://"):
        bucket, _, folder = output.removeprefix("gs://").partition("/")
        with Lease(gcs_client().bucket(bucket), f"{folder.rstrip('/')}/{LOCK}".lstrip("/"), flag):
            yield
    elif files.is_remote(output):
        yield
    else:
        with _locked_folder(output, flag):
            yield


def _owner() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}


def _refusal(where: str, owner: object) -> UsageError:
    who = "its owner is not known"
    if isinstance(owner, dict):
        with contextlib.suppress(KeyError, ValueError, TypeError, OverflowError):  # it is no run's, or damaged
            minutes = (time.time() - float(owner["since"])) / 60
            who = f"process {owner['pid']} on {owner['host']}, for {minutes:.0f} minutes"
    return UsageError(f"{where}: another run is writing to it ({who}); wait for its end, or stop it")


@contextlib.contextmanager
def _locked_folder(folder: str, flag: str) -> Iterator[None]:
    is_new = not os.path.exists(folder)
    path = os.path.join(folder, LOCK)
    try:
        os.makedirs(folder, exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise _refusal(flag + folder, _read_json(f"{path}.owner")) from error
    except OSError as error:
        reason = "a file" if os.path.isfile(folder) else error.strerror or str(error)
        raise UsageError(
            f"{flag}{folder}: expected a folder to write to, got: {reason}; check the path, and that you may "
            "write there"
        ) from error
    try:
        with open(f"{path}.owner", "w", encoding="utf-8") as stream:
            json.dump(_owner(), stream)
        yield
    finally:
        for name in (f"{path}.owner", path):
            with contextlib.suppress(OSError):
                os.remove(name)
        lock.release()
        if is_new:  # a run that was refused leaves nothing behind
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _read_json(path: str) -> object:
    try:
        with open(path, encoding="utf-8") as stream:
            return parse_json(stream.read())
    except (OSError, ValueError):
        return None


class Lease:
    """An object that exists while a run goes on, renewed every minute, and given up 5 minutes after its owner died.

    Each write states the generation that it replaces, so of two runs that try at once one fails. A run that finds its
    lease taken over, after it slept for longer than that, ends its process with one line.

    Args:
        bucket: a `google.cloud.storage.Bucket`.
        name: of the object.
        flag: what stands before its folder in messages.

    Raises:
        UsageError: on entering, where another run holds it, or the bucket cannot be written to.
    """

    def __init__(self, bucket: Any, name: str, flag: str = "--output ") -> None:
        self._bucket, self._name = bucket, name
        self._where = f"{flag}gs://{bucket.name}/{name.rpartition('/')[0]}"
        self._generation = 0
        self._owner = {**_owner(), "run": uuid.uuid4().hex}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="output-lease", daemon=True)

    def __enter__(self) -> Lease:
        try:
            with as_os_errors(self._name):
                self._take()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(
                f"{self._where}: expected a bucket to write to, got: {reason}; check its name, and that you may write"
            ) from error
        self._thread.start()
        return self

    def _take(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        held = self._bucket.get_blob(self._name)
        if held is not None:
            owner = _parse(held.download_as_bytes())
            if owner is None or float(owner["expires"]) > time.time():
                raise _refusal(self._where, owner)
            self._generation = held.generation
        try:
            self._write()
        except PreconditionFailed as error:
            raise _refusal(self._where, None) from error

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # it expires by itself
            self._bucket.blob(self._name).delete(if_generation_match=self._generation)

    def _write(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        blob = self._bucket.blob(self._name)
        content = json.dumps({**self._owner, "expires": time.time() + LEASE_SECONDS})
        try:
            blob.upload_from_string(content, if_generation_match=self._generation)
            self._generation = blob.generation
        except PreconditionFailed:
            # Google's client repeats a write whose answer was lost: then it is its own object that is in the way.
            held = self._bucket.get_blob(self._name)
            owner = _parse(held.download_as_bytes()) if held else None
            if owner is None or owner.get("run") != self._owner["run"]:
                raise
            self._generation = held.generation

    def _renew(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        while not self._ended.wait(_HEARTBEAT_SECONDS):
            try:
                self._write()
            except PreconditionFailed:  # this process slept for longer than the lease, and another run took it
                self._end_process()
            except Exception:  # the network: the next renewal comes before the lease ends
                continue

    def _end_process(self) -> NoReturn:
        """End the process at once, status 1: an exception or a signal might be caught, ignored or wait for a thread."""
        console().fail(
            "beam_pipeline",
            f"{self._where}: another run has taken it over, as this one did not renew its lock for "
            f"{LEASE_SECONDS / 60:.0f} minutes; this run ends, the other one goes on with its whole shards",
        )
        os._exit(1)


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        owner = parse_json(data)
        return owner if float(owner["expires"]) else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
