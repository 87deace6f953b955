"""A web server on this machine that serves files with ranges, and misbehaves by a script."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """The answer to one request; the default is that of a good server.

    Attributes:
        status: sent instead of the file, if not 0.
        cut: bytes of the body after which the connection is closed.
        extra: added to the Content-Length of a whole file.
        whole: ignore the requested range.
        careless: ignore If-Range, and send the range of the changed file.
        change: new content of the file, from this answer on.
        pause: seconds after each byte of the body.
    """

    status: int = 0
    cut: int | None = None
    extra: int = 0
    whole: bool = False
    careless: bool = False
    change: bytes | None = None
    pause: float = 0.0


GOOD = Answer()


@dataclass
class FileServer:
    """The state of the server: its files, its script, and the requests so far.

    Attributes:
        base: its address.
        files: by path, `/a.zip`.
        tags: headers of a file's version: `etag`, `weak`, `date`, or empty for none.
        length: whether the length of a whole file is sent.
        script: answers to the next requests; GOOD after the last.
        log: (path, Range, status) of each request.
        agents: User-Agent of each request.
    """

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tags: str = "etag"
    length: bool = True
    script: list[Answer] = field(default_factory=list)
    log: list[tuple[str, str | None, int]] = field(default_factory=list)
    agents: list[str | None] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)

    def validators(self, path: str) -> dict[str, str]:
        """Return the headers of a file's version."""
        version = self.versions.get(path, 0)
        date = {"Last-Modified": f"Mon, 0{version + 1} Jun 2015 10:00:00 GMT"}
        return {
            "etag": {"ETag": f'"v{version}"', **date},
            "weak": {"ETag": f'W/"v{version}"', **date},
            "date": date,
            "": {},
        }[self.tags]

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request by the script."""
        answer = self.script.pop(0) if self.script else GOOD
        path, asked = handler.path, handler.headers.get("Range")
        if answer.change is not None:
            self.files[path] = answer.change
            self.versions[path] = self.versions.get(path, 0) + 1
        status = answer.status or (200 if path in self.files else 404)
        headers: dict[str, str] = {}
        body = b""
        if status == 200:
            body, headers = self.files[path], dict(self.validators(path))
            same = answer.careless or handler.headers.get("If-Range") in headers.values()
            match = re.fullmatch(r"bytes=(\d+)-", asked or "")
            if match and same and not answer.whole:
                start, total = int(match[1]), len(body)
                status, body = (206, body[start:]) if start < total else (416, b"")
                headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}" if body else f"bytes */{total}"
        self.log.append((path, asked, status))
        self.agents.append(handler.headers.get("User-Agent"))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if self.length or status != 200:
            handler.send_header("Content-Length", str(len(body) + (answer.extra if status == 200 else 0)))
        handler.end_headers()
        if answer.pause:
            for byte in body:
                handler.wfile.write(bytes([byte]))
                time.sleep(answer.pause)
        else:
            handler.wfile.write(body[: answer.cut])


@contextlib.contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """Run a server until the end of the block."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A client may hang up as soon as it has the headers.
            with contextlib.suppress(ConnectionError):
                state.respond(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.base = f"http://127.0.0.1:{server.server_address[1]}"
    with running(server):
        yield state
