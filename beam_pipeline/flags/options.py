"""The command line: our own flags into a Config, Beam's passed through, anything else an error."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from beam_pipeline.flags.config import GROUPS, Config, check_flags
from beam_pipeline.preflight.environment import version_line
from beam_pipeline.usage import Parser, UsageError, did_you_mean, one_line

_JOB_SERVER_SECONDS = 30.0

COMMANDS = ("verify", "inspect", "report", "compare", "weights", "download", "rebuild", "fetch")
_EPILOG = (
    "All of Beam's own flags pass through, e.g. --runner=DataflowRunner. Other commands, each with --help: "
    f"python -m beam_pipeline.{', .'.join(COMMANDS)}. "
    "Exit status: 0 done, 1 the run failed, 2 wrong use, 130 interrupted."
)


def parse_args(argv: Sequence[str]) -> tuple[Config, list[str]]:
    """Split the command line.

    Returns:
        Our Config, and the flags that are Beam's own.

    Raises:
        UsageError: wrong use, in one line.
        SystemExit: after --help and --version.
    """
    from beam_pipeline.dataflow.machines import check_runner, use_the_gpu
    from beam_pipeline.flags.worker_paths import with_paths_for, workers_of

    parser = build_parser()
    namespace, beam_flags = parser.parse_known_args(argv)
    _check_beam_flags(parser, beam_flags)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(namespace).items()
    }
    config = Config(**values)
    check_flags(config)
    check_runner(config, beam_flags)
    return with_paths_for(workers_of(beam_flags), use_the_gpu(config, beam_flags)), beam_flags


def build_parser() -> Parser:
    """Make the parser of our own flags, in groups."""
    parser = Parser(
        prog="python -m beam_pipeline",
        description="Turn MS COCO, or any image set, into region features for vision-and-language models.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=version_line(), help="show the version and exit")
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for option in dataclasses.fields(Config):
        options: dict[str, Any] = {"action": "store_true"} if option.default is False else option.metadata["options"]
        text = option.metadata["help"].replace("`", "").replace("%", "%%")
        default = f" (default {option.default})" if _has_default(option) else ""
        parser.flags.append(flag_name(option))
        aliases = [f"--{alias}" for alias in option.metadata["aliases"]]
        parser.flags += aliases
        groups[option.metadata["group"]].add_argument(
            flag_name(option), *aliases, dest=option.name, default=argparse.SUPPRESS, help=text + default, **options
        )
    return parser


def flag_name(option: dataclasses.Field[Any]) -> str:
    """Return the flag that a field of Config is set by."""
    return f"--{option.metadata['flag'] or option.name}"


def _has_default(option: dataclasses.Field[Any]) -> bool:
    return option.default not in (None, False, (), "")


def flags_table() -> str:
    """Return the flags as Markdown tables, one a group, for docs/flags.md."""
    lines: list[str] = []
    for group in GROUPS:
        lines += [f"## {group.capitalize()}", "", "| flag | default | meaning |", "|---|---|---|"]
        for option in dataclasses.fields(Config):
            if option.metadata["group"] == group:
                settings = option.metadata["options"]
                value = "{" + ",".join(map(str, settings["choices"])) + "}" if "choices" in settings else ""
                value = value or settings.get("metavar", "") + (" ..." if "nargs" in settings else "")
                default = f"`{option.default}`" if _has_default(option) else ""
                lines.append(f"| `{f'{flag_name(option)} {value}'.strip()}` | {default} | {option.metadata['help']} |")
        lines.append("")
    return "\n".join(lines)


def _check_beam_flags(parser: Parser, beam_flags: Sequence[str]) -> None:
    """Refuse what is neither ours, nor Beam's, nor its job server's, naming the nearest known flag."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from transforms.beam_private import add_beam_flags, add_job_server_flags

    beam_parser = Parser(add_help=False, conflict_handler="resolve")
    add_beam_flags(beam_parser)
    _, unknown = beam_parser.parse_known_args(list(beam_flags))
    if unknown and unknown[0].startswith("-"):
        try:
            add_job_server_flags(beam_parser, PipelineOptions(list(beam_flags)), _JOB_SERVER_SECONDS)
        except OSError as error:
            raise UsageError(
                f"unknown flag {unknown[0].partition('=')[0]}, and the job server that may know it cannot be asked: "
                f"{one_line(error)}"
            ) from error
        _, unknown = beam_parser.parse_known_args(list(beam_flags))
    if not unknown:
        return
    name = unknown[0].partition("=")[0]
    if name in COMMANDS:
        raise UsageError(f"expected a flag, got {name!r}; did you mean python -m beam_pipeline.{name}?")
    if not name.startswith("-"):
        raise UsageError(f"expected a flag, got {name!r}; quote patterns, and give several images after one --images")
    raise UsageError(f"unknown flag {name}{did_you_mean(name, (*parser.flags, *beam_parser.flags))}")
