"""Every private or undocumented part of Beam that this project touches; Beam's version is bounded in setup.py for them.

`tests/transforms/test_beam_private.py` says what moved when a new version of Beam no longer has one.
"""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

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

# Minimum fetch of a random remote read; Google's reader would fetch 16 MiB for each.
_RANDOM_CHUNK = 1 << 16


def open_for_random_reads(path: str) -> BinaryIO:
    """Open a file to read small pieces of it; on gs:// each read then fetches little more than the piece."""
    stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    # Only the class behind gs:// has this field, and FileSystems.open has no argument for it.
    if hasattr(stream, "_chunk_size"):
        stream._chunk_size = _RANDOM_CHUNK
    return stream


def add_beam_flags(parser: Any) -> None:
    """Declare the flags of all of Beam's option classes on an ArgumentParser; Beam itself lets misspelt ones pass."""
    pending: list[type[PipelineOptions]] = [PipelineOptions]
    while pending:
        options = pending.pop()
        pending.extend(options.__subclasses__())
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)


def in_process_runner() -> PipelineRunner:
    """Return the runner that works in this process; Beam's DirectRunner would first try to download Prism."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()


def gcs_client() -> Any:
    """Return the `google.cloud.storage.Client` that Beam itself would use: the same credentials, the same emulator."""
    from apache_beam.io.gcp.gcsio import GcsIO

    return GcsIO().client
