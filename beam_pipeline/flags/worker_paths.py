"""Paths as workers see them: relative ones mean something only in the folder that a job is submitted from."""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import create_runner
from apache_beam.transforms.environments import DockerEnvironment

from beam_pipeline.dataflow.machines import is_dataflow
from beam_pipeline.flags.config import Config
from beam_pipeline.usage import UsageError
from transforms import files

# What workers read or write by its path; `--boxes` and `--detector_config` are read where the job is submitted.
_PATHS = ("corpus", "images", "import_files", "captions", "test1k_ids", "output", "reuse", "weights")


class Workers(enum.Enum):
    """Where workers look for a path.

    Attributes:
        HERE: in the folder that the job is submitted from.
        SHARED: on the same disks, from a folder of their own.
        CONTAINERS: on disks of their own.
    """

    HERE = enum.auto()
    SHARED = enum.auto()
    CONTAINERS = enum.auto()


def workers_of(beam_flags: Sequence[str]) -> Workers:
    """Return where the workers of a job look for paths.

    Args:
        beam_flags: Beam's own flags, which name the runner and the environment of its workers.
    """
    options = PipelineOptions(list(beam_flags))
    if is_dataflow(options):
        return Workers.CONTAINERS
    try:
        runner = create_runner(options.view_as(StandardOptions).runner or "DirectRunner")
        if not isinstance(runner, PortableRunner):
            return Workers.HERE
        in_containers = isinstance(runner.default_environment(options), DockerEnvironment)
    except ValueError:  # no such runner or environment, which is said where the pipeline is made
        return Workers.HERE
    return Workers.CONTAINERS if in_containers else Workers.SHARED


def path_for(workers: Workers, path: str, flag: str) -> str:
    """Return a path as the workers find it.

    Raises:
        UsageError: it is local, and they do not see this machine's files.
    """
    if workers is Workers.HERE or files.is_remote(path):
        return path
    # The image may hold the weights.
    if workers is Workers.CONTAINERS and not (os.path.isabs(path) and flag == "--weights"):
        raise UsageError(
            f"{flag} {path}: the workers, in containers, do not see this machine's folders: expected a path on remote "
            "storage, such as gs://BUCKET/..."
        )
    if os.path.isabs(path):
        return path
    parts = path.split("/")
    return os.path.join(os.getcwd(), path if ".." in parts else os.path.normpath(path))  # `..` may follow a link


def with_paths_for(workers: Workers, config: Config) -> Config:
    """Return a Config whose paths the workers find.

    Raises:
        UsageError: they do not see this machine's files, and a path is local.
    """
    if workers is Workers.CONTAINERS and not files.is_remote(config.output):
        raise UsageError(
            f"--output {config.output}: the workers, in containers, would write it to disks of their own: expected a "
            "path on remote storage, such as gs://BUCKET/..."
        )
    found: dict[str, Any] = {}
    for name in _PATHS:
        value = getattr(config, name)
        flag = f"--{name.removesuffix('_files')}"
        if isinstance(value, tuple):
            found[name] = tuple(path_for(workers, path, flag) for path in value)
        elif value is not None:
            found[name] = path_for(workers, value, flag)
    return dataclasses.replace(config, **found)
