"""A storage emulator for gs://, and a proxy before it that answers some requests as a bad network would.

The emulator ignores preconditions and forgets an upload once it is complete; the proxy makes up for both, as Google
documents them: `ifGenerationMatch` is compared (412), and a part of an upload that is sent again gets its first answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

BUCKET = "bucket"
# Answered 429 or 503; a whole batch of requests answered 503 one by one; the reply cut in the middle, after the request
# was carried out; the request cut in the middle, and not carried out.
TOO_MANY, UNAVAILABLE, UNAVAILABLE_PARTS, CUT_REPLY, TORN_REQUEST = "429", "503", "503s", "cut reply", "torn request"
FAULTS = (TOO_MANY, UNAVAILABLE, UNAVAILABLE_PARTS, CUT_REPLY, TORN_REQUEST)
_BATCH = "/batch/storage/v1"
_HOP_HEADERS = ("connection", "content-length", "transfer-encoding", "server", "date")


class Reply(NamedTuple):
    """An HTTP reply."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def error_reply(status: int, reason: str) -> Reply:
    """Return an error as Google's storage words it."""
    body = json.dumps({"error": {"code": status, "message": reason, "errors": [{"reason": reason}]}})
    return Reply(status, (("Content-Type", "application/json"),), body.encode())


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """Run a storage emulator with an empty bucket; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--in-memory"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            try:
                _send_json("POST", f"{address}/storage/v1/b?project=test", {"name": BUCKET})
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        # Otherwise it keeps every deleted object, and writes a list of all of them at each request.
        _send_json("PATCH", f"{address}/storage/v1/b/{BUCKET}", {"softDeletePolicy": {"retentionDurationSeconds": "0"}})
        yield address
    finally:
        server.kill()
        server.wait()


def _send_json(method: str, url: str, content: object) -> None:
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(content).encode(), headers, method=method)).close()


@dataclass
class FaultyStorage:
    """The proxy's state.

    Attributes:
        upstream: address of the emulator.
        rate: share of the requests that meet a fault.
        seed: of the faults; which request meets which depends on the order in which they come.
        base: address of the proxy.
        met: how often each fault was met.
        script: faults of the next requests, before any by chance; "" for none.
    """

    upstream: str
    rate: float = 0.0
    seed: int = 0
    base: str = ""
    met: Counter[str] = field(default_factory=Counter)
    script: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._lock = threading.Lock()
        self._answered: dict[tuple[str, str], Reply] = {}

    def draw(self, path: str) -> str:
        """Return the fault that the next request meets, or an empty text."""
        with self._lock:
            if self.script:
                fault = self.script.pop(0)
            else:
                is_batch = path.startswith(_BATCH)
                kinds = [fault for fault in FAULTS if is_batch or fault != UNAVAILABLE_PARTS]
                fault = self._rng.choice(kinds) if self._rng.random() < self.rate else ""
            self.met[fault] += bool(fault)
            return fault

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Have the emulator carry out a request, one at a time."""
        part = (path, headers.get("content-range", ""))
        is_part = method == "PUT" and "upload_id=" in path and not part[1].startswith("bytes */*")
        with self._lock:
            if is_part and part in self._answered:
                return self._answered[part]
            reply = self._refusal(method, path, body) or self._ask(method, path, headers, body)
            if is_part and reply.status in (200, 308):
                self._answered[part] = reply
            return reply

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=60)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            kept = [header for header in response.getheaders() if header[0].lower() not in _HOP_HEADERS]
            return Reply(response.status, tuple(kept), response.read())
        finally:
            connection.close()

    def _refusal(self, method: str, path: str, body: bytes) -> Reply | None:
        """Return 412 if the object has not the generation that the request states."""
        url = urlsplit(path)
        wanted = parse_qs(url.query).get("ifGenerationMatch")
        if not wanted or method == "GET":
            return None
        if method == "DELETE":
            target = url.path
        else:
            named = parse_qs(url.query).get("name") or [json.loads(re.findall(rb"\{.*?\}", body)[0])["name"]]
            target = f"/storage/v1/b/{BUCKET}/o/{quote(named[0], safe='')}"
        stored = self._ask("GET", target, {})
        generation = json.loads(stored.body)["generation"] if stored.status == 200 else "0"
        return None if generation == wanted[0] else error_reply(412, "conditionNotMet")


class _Handler(BaseHTTPRequestHandler):
    storage: FaultyStorage

    def _respond(self) -> None:
        with contextlib.suppress(ConnectionError):  # killed clients
            fault, size = self.storage.draw(self.path), int(self.headers.get("Content-Length", 0))
            if fault == TORN_REQUEST:
                self.rfile.read(size // 2)
                self._reset()
                return
            body = self.rfile.read(size)
            if len(body) < size:  # the client died in the middle
                return
            if fault in (TOO_MANY, UNAVAILABLE):
                reply = error_reply(int(fault), "backendError")
            elif fault == UNAVAILABLE_PARTS:
                reply = unavailable_parts(body)
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = self.storage.forward(self.command, self.path, headers, body)
            self._send(reply, cut=fault == CUT_REPLY)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _respond  # noqa: N815

    def _send(self, reply: Reply, cut: bool) -> None:
        if cut and not reply.body:
            self._reset()
            return
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if cut else reply.body)
        if cut:
            self._reset()

    def _reset(self) -> None:
        """End the connection with a reset instead of an orderly end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def unavailable_parts(batch: bytes) -> Reply:
    """Return the reply to a batch of requests, each of which is answered 503."""
    error = error_reply(503, "backendError").body.decode()
    part = f"--x\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 503 Unavailable\r\n\r\n{error}\r\n"
    count = batch.count(b"Content-Type: application/http")
    return Reply(200, (("Content-Type", "multipart/mixed; boundary=x"),), f"{part * count}--x--".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing of connections that were reset."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def faulty_storage(upstream: str, rate: float = 0.0, seed: int = 0) -> Iterator[FaultyStorage]:
    """Run the proxy until the end of the block."""
    storage = FaultyStorage(upstream, rate, seed)
    handler = type("Handler", (_Handler,), {"storage": storage})
    server = _Server(("127.0.0.1", 0), handler)
    storage.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield storage
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
