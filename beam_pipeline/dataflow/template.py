"""A Dataflow Flex Template of the program: its parameters, and its flags in the form that the launcher gives them."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from beam_pipeline.dataflow.machines import GPU
from beam_pipeline.exports import OUTPUTS
from beam_pipeline.flags.config import Config
from beam_pipeline.flags.options import flag_name
from beam_pipeline.flags.types import amount, positive, share
from beam_pipeline.usage import UsageError, one_line

_SWITCH = {"true": True, "false": False}
# Commas between sources; one inside of braces belongs to a glob.
_COMMA = re.compile(r",(?![^{]*\})")
_COUNT, _SHARE, _ANYTHING = r"[1-9][0-9]*", r"0(\.[0-9]+)?|1(\.0*)?|\.[0-9]+", r".+"
_AMOUNT = r"[1-9][0-9]*(\.[0-9]+)?|0?\.[0-9]*[1-9][0-9]*"
_REMOTE, _REMOTE_OR_WEB = r"gs://[^/]+/.+", r"(gs|https)://.+"
# The launcher's machine is gone with its disk; other paths of the same flags are of no use in a template.
_PATTERNS = {"output": r"gs://[^/]+(/.*)?", "weights": _REMOTE_OR_WEB, "detector_config": _ANYTHING}
_PATTERNS["outputs"] = "({0})(,({0}))*".format("|".join(OUTPUTS))
# The first source is looked at, for a glob may hold commas.
_PATTERNS |= {"images": r"gs://.+", "accelerator": GPU}
_BY_TYPE = {positive: _COUNT, amount: _AMOUNT, share: _SHARE}
_BY_METAVAR = {"DIR": _REMOTE, "FILE": _REMOTE}
_REQUIRED = ("output",)
# A template starts a job and does not wait; and its launcher's machine is gone with its files.
_LEFT_OUT = ("no_wait", "on_interrupt", "log_json")
# Flags of Beam's that no field of the launch request carries to a Python job.
_BEAMS_OWN = (
    {
        "name": "sdk_container_image",
        "label": "Image of the workers",
        "helpText": "The image that this template was built with.",
        "regexes": [r"^\S+$"],
    },
    {
        "name": "disk_size_gb",
        "label": "Disk of a worker",
        "helpText": "In GB: the image, and the largest file that is built; 200 for COCO.",
        "regexes": [f"^({_COUNT})?$"],
        "isOptional": True,
    },
)


def from_launcher(argv: Sequence[str]) -> Iterator[str]:
    """Yield the flags of a command line in the form that the program takes.

    A launcher writes every flag as `--name=value`: switches with true or false, lists with commas, and parameters that
    were left empty as `--name=`.

    Raises:
        UsageError: a switch is neither true nor false.
    """
    options = {flag_name(option): option for option in dataclasses.fields(Config)}
    for word in argv:
        flag, equals, value = word.partition("=")
        option = options.get(flag)
        if not word.startswith("--") or not equals or (option is None and value):
            yield word
        elif not value:
            continue
        elif option is not None and option.default is False:
            if value.lower() not in _SWITCH:
                raise UsageError(f"{flag}: expected true or false, got {value!r}")
            if _SWITCH[value.lower()]:
                yield flag
        elif option is not None and "nargs" in option.metadata["options"]:
            yield flag
            yield from filter(None, _COMMA.split(value))
        else:
            yield word


def metadata() -> dict[str, Any]:
    """Describe the template and its parameters, one a flag, for `gcloud dataflow flex-template build`."""
    parameters = [_parameter(option) for option in dataclasses.fields(Config) if option.name not in _LEFT_OUT]
    return {
        "name": "Region features",
        "description": "Region features for vision-and-language models, from MS COCO or any images.",
        "parameters": [*parameters, *_BEAMS_OWN],
    }


def _parameter(option: dataclasses.Field[Any]) -> dict[str, Any]:
    is_required = option.name in _REQUIRED
    text = option.metadata["help"].replace("`", "")
    default = f" Default {option.default}." if option.default not in (None, False, (), "") else ""
    parameter: dict[str, Any] = {
        "name": flag_name(option).removeprefix("--"),
        "label": option.name.replace("_", " ").capitalize(),
        "helpText": f"{text[0].upper()}{text[1:]}.{default}",
        "regexes": [f"^({_pattern(option)})$" if is_required else f"^({_pattern(option)})?$"],
    }
    return parameter if is_required else {**parameter, "isOptional": True}


def _pattern(option: dataclasses.Field[Any]) -> str:
    settings = option.metadata["options"]
    if option.default is False:
        return "|".join(_SWITCH)
    if "choices" in settings:
        return "|".join(re.escape(str(choice)) for choice in settings["choices"])
    if option.name in _PATTERNS:
        return _PATTERNS[option.name]
    pattern = _BY_TYPE.get(settings.get("type")) or _BY_METAVAR.get(settings["metavar"], _ANYTHING)
    return f"({pattern})(,({pattern}))*" if "nargs" in settings else pattern


def main(argv: Sequence[str]) -> int:
    """Run the program as the launcher calls it: it writes the job's file, which the launcher then submits.

    Args:
        argv: the launcher's command line without the script's name.

    Returns:
        Exit status, as of the program.
    """
    from beam_pipeline.pipeline import main as run

    try:
        flags = list(from_launcher(argv))
    except UsageError as error:
        print(f"beam_pipeline: {one_line(error)}", file=sys.stderr)
        return 2
    # The workers run the launcher's own image, which holds the SDK.
    own = [] if any(flag.startswith("--sdk_location") for flag in flags) else ["--sdk_location=container"]
    return run([*flags, *own])
