"""One job on Dataflow, from its submission to its end, and the lines that its user gets."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_pipeline.dataflow.errors import JobError, describe_error, describe_message, remedy_for
from beam_pipeline.dataflow.patience import Patience
from beam_pipeline.exports import EXPORT_NAMES
from transforms.beam_private import DataflowCalls, JobMessage, requests_of_a_submission
from transforms.metrics import NAMESPACE
from transforms.shards import IMAGES_FAILED, IMAGES_WRITTEN

POLL_SECONDS = 5.0
# The reason of a failure comes some time after the state.
REASON_SECONDS = 50.0
_SUBMISSION_NOTE_SECONDS = 30.0
_SUBMIT_SECONDS, _WATCH_SECONDS, _CANCEL_SECONDS, _UNREACHABLE_SECONDS = 600.0, 1800.0, 20.0, 15.0
# Beam counts inferences in the same namespace.
_SHOWN = (IMAGES_WRITTEN, IMAGES_FAILED, *(f"{name}_" for name in EXPORT_NAMES))
_CANCELLATION = re.compile(r"[Cc]ancel")
_ENDED_WELL, _ENDED = "DONE", ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")


class DataflowJob:
    """A job, which is submitted once.

    Args:
        pipeline: the graph, with Beam's options.
    """

    def __init__(self, pipeline: beam.Pipeline) -> None:
        self._pipeline = pipeline
        self._cloud = pipeline.options.view_as(GoogleCloudOptions)
        # Dataflow refuses a second job of a name while the first one runs.
        self._cloud.job_name = self._cloud.job_name or time.strftime("region-features-%Y%m%d-%H%M%S", time.gmtime())
        self._calls: DataflowCalls | None = None
        self._seen: set[str] = set()
        self._reason = (-1, "")

    def submit(self, say: Callable[[str], None]) -> bool:
        """Send the job to the service, or write its template.

        Returns:
            Whether there is a job now; otherwise a template was written.

        Raises:
            JobError: the service refuses it or cannot be reached.
        """
        patience = Patience("the Dataflow service", _SUBMIT_SECONDS, _UNREACHABLE_SECONDS, say)
        note = threading.Timer(_SUBMISSION_NOTE_SECONDS, say, ["note: still submitting the job to Dataflow"])
        note.daemon = True
        note.start()
        try:
            with self._said_by_the_service("cannot submit the job"), requests_of_a_submission(patience.call):
                result = self._pipeline.run()
        finally:
            note.cancel()
        if not getattr(result, "has_job", False):
            say(f"note: wrote the template {self._cloud.template_location}; no job was started")
            return False
        self._calls = DataflowCalls(result)
        say(f"note: Dataflow job {self.name}: {self.page}")
        return True

    def wait(self, say: Callable[[str], None]) -> None:
        """Wait for the job's end, printing the errors that its workers report.

        Raises:
            JobError: it did not end well, with what the service says; or the service cannot be asked any more.
        """
        # A job that was just created may be unknown for a while.
        patience = Patience("the Dataflow service", _WATCH_SECONDS, _WATCH_SECONDS, say, also=(404,))
        with self._said_by_the_service(f"no longer watching Dataflow job {self.name}, which goes on"):
            while (state := patience.call(self._known_calls.state)) not in _ENDED:
                self._report(patience, say)
                time.sleep(POLL_SECONDS)
            if state == _ENDED_WELL:
                return
            deadline = time.monotonic() + REASON_SECONDS
            self._report(patience, say)
            while state == "FAILED" and not self._reason[1] and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                self._report(patience, say)
        reason = self._reason[1] or "the service gave no reason"
        raise JobError(f"Dataflow job {self.name} is {state}: {reason} ({self.page})", remedy_for(reason))

    def counts(self) -> Mapping[str, int]:
        """Return the job's counters; none while there is no answer."""
        try:
            counters = self._calls.counters(NAMESPACE) if self._calls else {}
        except Exception:  # a progress display must not end a run
            return {}
        return {name: count for name, count in counters.items() if name.startswith(_SHOWN)}

    def interrupted(self, cancel: bool) -> str:
        """Cancel the job if that is asked for; say in one line what becomes of it."""
        if not self._calls:
            return (
                f"interrupted while the job {self._cloud.job_name} was being submitted; see whether it is there: "
                f"gcloud dataflow jobs list {self._place}"
            )
        by_hand = f"gcloud dataflow jobs cancel {self._calls.job_id} {self._place}"
        if not cancel:
            return f"no longer watching; Dataflow job {self.name} goes on. To cancel it: {by_hand}"
        patience = Patience("the Dataflow service", _CANCEL_SECONDS, _CANCEL_SECONDS, lambda _: None)
        try:
            patience.call(self._calls.cancel)
        except Exception as error:
            return f"Dataflow job {self.name} could not be cancelled ({describe_error(error)}): {by_hand}"
        return f"Dataflow job {self.name} is being cancelled; whole shards stay, run the same command again to go on"

    @property
    def name(self) -> str:
        """The job's id and its name."""
        return f"{self._known_calls.job_id} ({self._cloud.job_name})"

    @property
    def page(self) -> str:
        """The job's page in the console."""
        place = f"{self._cloud.region}/{self._known_calls.job_id}?project={self._cloud.project}"
        return f"https://console.cloud.google.com/dataflow/jobs/{place}"

    @property
    def _place(self) -> str:
        return f"--region={self._cloud.region} --project={self._cloud.project}"

    @property
    def _known_calls(self) -> DataflowCalls:
        assert self._calls, "the job has been submitted"
        return self._calls

    def _report(self, patience: Patience, say: Callable[[str], None]) -> None:
        messages: list[JobMessage] = patience.call(self._known_calls.new_messages)
        for message in messages:
            line = describe_message(message.text)
            if message.importance == "BASIC":
                # How it goes; but of a job that was cancelled, nothing else is said.
                if _CANCELLATION.search(line) and self._reason[0] < 0:
                    self._reason = (-1, line)
                continue
            if line not in self._seen:  # a work item is tried four times
                self._seen.add(line)
                say(f"{message.importance.lower()} of Dataflow: {line}")
            # The exception of a worker says more than the service's count of its attempts.
            rank = 2 if "Traceback" in message.text else int("work item was attempted" not in message.text)
            if message.importance == "ERROR" and rank >= self._reason[0]:
                self._reason = (rank, line)

    @contextmanager
    def _said_by_the_service(self, what: str) -> Iterator[None]:
        """Turn an error of the service's client into a JobError; others are ours, or Beam's."""
        try:
            yield
        except Exception as error:
            if not _is_of_the_service(error):
                raise
            text = describe_error(error)
            raise JobError(f"{what}: {text}", remedy_for(text)) from None


def _is_of_the_service(error: Any) -> bool:
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    return isinstance(error, GoogleAPIError | GoogleAuthError | RequestException)
