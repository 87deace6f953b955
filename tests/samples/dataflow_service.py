"""A stand-in on this machine for the REST service of Dataflow: create, get, messages, metrics and update of a job.

Beam talks REST to an endpoint whose name holds `localhost`, see `--dataflow_endpoint`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.samples.file_server import running

JOB_ID = "2026-11-27_03_14_15-9265358979"
_JOBS = re.compile(r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs")
_HTTP_STATUS_NAMES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


@dataclass
class DataflowService:
    """The state of the service.

    Attributes:
        base: its address, for `--dataflow_endpoint`.
        states: of the job, one a request for it; the last one stays.
        messages: of the job, as (importance, text); a request gets all of them.
        counters: user counters, name -> value.
        refusals: (part of a request line, HTTP status) that the next matching requests get in place of an answer.
        on_create: called with each job that was created, before the answer.
        jobs: the jobs that were created, as they came.
        updates: the bodies of updates.
        log: method and path of each request.
    """

    base: str = ""
    states: list[str] = field(default_factory=lambda: ["JOB_STATE_RUNNING", "JOB_STATE_DONE"])
    messages: list[tuple[str, str]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    refusals: list[tuple[str, int]] = field(default_factory=list)
    on_create: Callable[[dict[str, Any]], None] = lambda job: None
    jobs: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that send a job here."""
        return (f"--dataflow_endpoint={self.base}", "--no_auth")

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and body for a request."""
        self.log.append(f"{method} {path}")
        for refusal in self.refusals:
            if refusal[0] in self.log[-1]:
                self.refusals.remove(refusal)
                status = refusal[1]
                name = _HTTP_STATUS_NAMES.get(status, "INTERNAL")
                return status, {"error": {"code": status, "message": f"the fake says {status}", "status": name}}
        match = _JOBS.match(path)
        if not match:
            return 404, {"error": {"code": 404, "message": f"no such path: {path}", "status": "NOT_FOUND"}}
        rest = path[match.end() :]
        if method == "POST":
            self.jobs.append(body)
            self.on_create(body)
            return 200, self._job("JOB_STATE_PENDING")
        if method == "PUT":
            self.updates.append(body)
            self.states = ["JOB_STATE_CANCELLED"]
            return 200, self._job(self.states[0])
        if rest.endswith("/messages"):
            return 200, {"jobMessages": [self._message(*row) for row in enumerate(self.messages)]}
        if rest.endswith("/metrics"):
            return 200, {"metrics": [self._metric(*item) for item in self.counters.items()]}
        return 200, self._job(self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def _job(self, state: str) -> dict[str, Any]:
        name, request = self.jobs[-1]["name"], self.jobs[-1].get("clientRequestId", "")
        return {"id": JOB_ID, "name": name, "currentState": state, "clientRequestId": request}

    @staticmethod
    def _message(number: int, message: tuple[str, str]) -> dict[str, Any]:
        time = f"2026-11-27T03:14:{number:02d}Z"
        return {"id": str(number), "time": time, "messageImportance": message[0], "messageText": message[1]}

    @staticmethod
    def _metric(name: str, value: int) -> dict[str, Any]:
        context = {"namespace": "region_features", "step": "s1", "tentative": "true"}
        return {"name": {"origin": "user", "name": name, "context": context}, "scalar": value}


@contextlib.contextmanager
def serving_dataflow() -> Iterator[DataflowService]:
    """Run the service until the end of the block."""
    state = DataflowService()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, content = state.answer(self.command, self.path.partition("?")[0], body)
            data = json.dumps(content).encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.base = f"http://localhost:{server.server_address[1]}"
    with running(server):
        yield state
