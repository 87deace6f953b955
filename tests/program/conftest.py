"""A bucket of a storage emulator for the tests of this folder."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from apache_beam.internal.gcp import auth


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a storage emulator with one bucket that lives as long as the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--in-memory"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        body = json.dumps({"name": "bucket"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/storage/v1/b?project=test", body, headers)
        for _ in range(200):
            try:
                urllib.request.urlopen(request).close()
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        # Otherwise Beam looks for credentials on the network for 25 seconds.
        monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
        yield "gs://bucket"
    finally:
        server.kill()
        server.wait()
