"""Every private or undocumented part of Beam that this project touches; Beam's version is bounded in setup.py for them.

`tests/transforms/test_beam_private.py` says what moved when a new version of Beam no longer has one.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import apache_beam.pipeline
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner

_MODEL_MANAGER = "apache_beam.ml.inference.model_manager"

# Beam 2.77's RunInference imports torch for its optional model manager wherever torch is installed; job submission and
# --help would take seconds for it. None in sys.modules makes that import an ImportError, which Beam is prepared for.
_blocked = sys.modules.setdefault(_MODEL_MANAGER, None) is None  # type: ignore[arg-type]
try:
    from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
finally:
    if _blocked:
        del sys.modules[_MODEL_MANAGER]

__all__ = ["KeyedModelHandler", "ModelHandler", "RunInference"]

_RANDOM_CHUNK = 1 << 16


@contextlib.contextmanager
def as_in_a_script() -> Iterator[None]:
    """Keep Beam from its ways in notebooks, where it puts the number of the cell before the names of the steps.

    It imports its data frames for that, and Beam 2.77's fail beside pandas 3.
    """
    in_scripts = {"is_in_ipython": lambda: False, "alter_label_if_ipython": lambda transform, pvalue: None}
    in_notebooks = {name: getattr(apache_beam.pipeline, name) for name in in_scripts}
    try:
        vars(apache_beam.pipeline).update(in_scripts)
        yield
    finally:
        vars(apache_beam.pipeline).update(in_notebooks)


def open_for_random_reads(path: str, least: int = _RANDOM_CHUNK) -> BinaryIO:
    """Open a file to read pieces of it; on gs:// each read then fetches little more than the piece.

    Args:
        path: of the file.
        least: bytes that a read fetches at least, for what is read after it; Google's reader would fetch 16 MiB.
    """
    stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    # Only the class behind gs:// has this field, and FileSystems.open has no argument for it.
    if hasattr(stream, "_chunk_size"):
        stream._chunk_size = least
    return stream


def add_beam_flags(parser: Any) -> None:
    """Declare the flags of all of Beam's option classes on an ArgumentParser; Beam itself lets misspelt ones pass."""
    pending: list[type[PipelineOptions]] = [PipelineOptions]
    while pending:
        options = pending.pop()
        pending.extend(options.__subclasses__())
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)


def add_job_server_flags(parser: Any, options: PipelineOptions, timeout: float) -> None:
    """Declare the flags of the job server that a job goes to, which Beam itself learns only when it submits.

    A server that the runner would start by itself (Flink's, Spark's) is started for it; the jar that a runner would
    submit in a server's place is such a server, too. A runner without a job server has no such flags.

    Args:
        parser: where they are declared; flags that it has stay as they are.
        options: of the job.
        timeout: seconds to wait for the server's answer.

    Raises:
        OSError: the server does not answer, or cannot be fetched or started.
    """
    import grpc
    from apache_beam.options.pipeline_options import (
        FlinkRunnerOptions,
        PortableOptions,
        SparkRunnerOptions,
        StandardOptions,
    )
    from apache_beam.portability.api import beam_job_api_pb2
    from apache_beam.runners.portability import job_server
    from apache_beam.runners.portability.portable_runner import PortableRunner
    from apache_beam.runners.portability.prism_runner import PrismRunner
    from apache_beam.runners.runner import create_runner

    try:
        runner = create_runner(options.view_as(StandardOptions).runner or "DirectRunner")
        if not isinstance(runner, PortableRunner) or isinstance(runner, PrismRunner):
            return
        options.view_as(FlinkRunnerOptions).flink_submit_uber_jar = False
        options.view_as(SparkRunnerOptions).spark_submit_uber_jar = False
        endpoint = options.view_as(PortableOptions).job_endpoint
        server = job_server.ExternalJobServer(endpoint, timeout) if endpoint else runner.default_job_server(options)
        service = server.start()
        try:
            request = beam_job_api_pb2.DescribePipelineOptionsRequest()
            described = service.DescribePipelineOptions(request, timeout=timeout)
        finally:
            server.stop()
    except grpc.FutureTimeoutError as error:
        raise OSError(f"no answer in {timeout:g} seconds") from error
    except (grpc.RpcError, NotImplementedError, RuntimeError, ValueError) as error:
        raise OSError(str(error)) from error
    types = beam_job_api_pb2.PipelineOptionType
    declarations: dict[int, dict[str, Any]] = {
        types.BOOLEAN: {"action": "store_true"},
        types.INTEGER: {"type": int},
        types.ARRAY: {"action": "append"},
    }
    for flag in described.options:
        if f"--{flag.name}" not in parser._option_string_actions:
            parser.add_argument(f"--{flag.name}", **declarations.get(flag.type, {}))


def in_process_runner() -> PipelineRunner:
    """Return the runner that works in this process; Beam's DirectRunner would first try to download Prism."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()


def current_metrics(result: Any) -> Any:
    """Return the metrics of a pipeline's result as they are now; those of portable runners keep what came first."""
    if hasattr(result, "_metrics"):
        result._metrics = None
    return result.metrics()


def gcs_client(options: PipelineOptions | None = None) -> Any:
    """Return the `google.cloud.storage.Client` that Beam itself would use: the same credentials, the same emulator."""
    from apache_beam.io.gcp.gcsio import GcsIO

    return GcsIO(pipeline_options=options).client


def connect_anonymously() -> None:
    """Have Beam use no credentials for storage either; it would look for some on the network for half a minute."""
    from apache_beam.internal.gcp.auth import _Credentials

    _Credentials._credentials, _Credentials._credentials_init = None, True


# Beam repeats these for up to ten minutes, in silence, and 429 not at all.
_SUBMISSION_REQUESTS = ("stage_file_with_retry", "submit_job_description")


@contextlib.contextmanager
def requests_of_a_submission(call: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    """Have `call` make each request that submits a Dataflow job in the block, in place of Beam's own repetitions."""
    from apache_beam.runners.dataflow.internal import apiclient

    client = apiclient.DataflowApplicationClient
    originals = {name: getattr(client, name) for name in _SUBMISSION_REQUESTS}
    # It logs every refusal as fatal; the caller says it in one line.
    logging.getLogger(apiclient.__name__).setLevel(logging.CRITICAL + 1)
    try:
        for name, original in originals.items():
            setattr(client, name, _through(call, original.__wrapped__))
        yield
    finally:
        for name, original in originals.items():
            setattr(client, name, original)


def _through(call: Callable[[Callable[[], Any]], Any], method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: call(functools.partial(method, *arguments, **options))


class JobMessage(NamedTuple):
    """What Dataflow says of a job.

    Attributes:
        importance: `BASIC`, `WARNING` or `ERROR`.
        text: may have many lines.
    """

    importance: str
    text: str


class DataflowCalls:
    """The requests about one Dataflow job, each made once: Beam's own methods repeat them in silence.

    Args:
        result: of the DataflowRunner, with a job.
    """

    def __init__(self, result: Any) -> None:
        self._client = result._runner.dataflow_client
        self.job_id: str = result.job_id()
        self._latest: Any = None
        self._read: set[str] = set()

    def _once(self, method: str, *arguments: Any, **options: Any) -> Any:
        return getattr(type(self._client), method).__wrapped__(self._client, self.job_id, *arguments, **options)

    def state(self) -> str:
        """Return the job's state, `RUNNING` or another of Dataflow's."""
        return self._once("get_job").current_state.name.removeprefix("JOB_STATE_")

    def new_messages(self) -> list[JobMessage]:
        """Return the messages that came since the last call, but for those in detail."""
        new, page = [], None
        while True:
            messages, page = self._once(
                "list_messages", start_time=self._latest, page_token=page, minimum_importance="JOB_MESSAGE_BASIC"
            )
            for message in messages:
                importance = message.message_importance.name.removeprefix("JOB_MESSAGE_")
                if message.id not in self._read and importance in ("BASIC", "WARNING", "ERROR"):
                    new.append(JobMessage(importance, message.message_text))
                self._read.add(message.id)
                self._latest = max(self._latest or message.time, message.time)
            if not page:
                return new

    def counters(self, namespace: str) -> Mapping[str, int]:
        """Return the counters of a namespace as far as they are reported, name -> value."""
        counts: dict[str, int] = {}
        for metric in self._once("get_job_metrics").metrics:
            is_wanted = metric.name.origin == "user" and metric.name.context.get("namespace") == namespace
            if is_wanted and isinstance(metric.scalar, int | float):
                # Each comes as committed and as tentative, which counts bundles in work too.
                counts[metric.name.name] = max(counts.get(metric.name.name, 0), int(metric.scalar))
        return counts

    def cancel(self) -> None:
        """Ask for the job's cancellation."""
        self._once("modify_job_state", "JOB_STATE_CANCELLED")
