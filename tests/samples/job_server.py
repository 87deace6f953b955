"""A job server on this machine that says which flags it has, and does nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

_TYPES = beam_job_api_pb2.PipelineOptionType
_FLAGS = {
    "number_of_execution_retries": _TYPES.INTEGER,
    "reuse_things": _TYPES.BOOLEAN,
    "files_to_stage": _TYPES.ARRAY,
    "savepoint_path": _TYPES.STRING,
    "parallelism": _TYPES.INTEGER,  # Beam's Python has it, too
}


class _Service(beam_job_api_pb2_grpc.JobServiceServicer):
    def DescribePipelineOptions(self, request: Any, context: Any) -> Any:  # noqa: N802
        options = [beam_job_api_pb2.PipelineOptionDescriptor(name=name, type=kind) for name, kind in _FLAGS.items()]
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=options)


@contextlib.contextmanager
def serving_job_flags() -> Iterator[str]:
    """Run the server until the end of the block; yields its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(_Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()
