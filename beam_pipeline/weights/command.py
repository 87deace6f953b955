"""`python -m beam_pipeline.weights`: describe a weights file, or convert it to .safetensors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from beam_pipeline.flags.types import address, path
from beam_pipeline.usage import Parser, one_line
from region_features.detector.architecture import Architecture
from region_features.detector.weights.messages import printable
from region_features.detector.weights.safetensors_file import encode_weights
from region_features.detector.weights.state import Weights
from region_features.detector.weights.weights_file import read_weights
from region_features.download.http import shown
from transforms import files
from transforms.weights_cache import local_copy

SOURCE_SHA256, SOURCE_FORMAT = "source_sha256", "source_format"


def main(argv: Sequence[str]) -> int:
    """Run the program.

    Args:
        argv: the command line without the program's name.

    Returns:
        Exit status: 0 done, 2 wrong use or an unusable file.
    """
    parser = Parser(
        prog="python -m beam_pipeline.weights",
        description="Weights of the bottom-up-attention network: a .caffemodel, a detectron2 pickle, a torch .pth or "
        ".bin, or a .safetensors, told apart by content; local, gs:// or https://...[#sha256=HEX].",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    convert_parser = commands.add_parser("convert", help="write weights as .safetensors")
    convert_parser.add_argument("source", metavar="IN", type=address, help="weights of any known format")
    convert_parser.add_argument(
        "target", metavar="OUT.safetensors", type=path, help="the file to write or replace, local or gs://"
    )
    inspect_parser = commands.add_parser("inspect", help="describe a weights file")
    inspect_parser.add_argument("source", metavar="FILE", type=address, help="weights of any known format")
    try:
        args = parser.parse_args(argv)
        answer = convert(args.source, args.target) if args.command == "convert" else inspect(args.source)
    except OSError as error:
        place, reason = error.filename or shown(args.source), error.strerror or str(error)
        print(f"beam_pipeline.weights: {place}: expected a file, got: {reason}; check the path", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"beam_pipeline.weights: {one_line(error)}", file=sys.stderr)
        return 2
    print(answer)
    return 0


def convert(source: str, target: str) -> str:
    """Convert weights to .safetensors; both files give the same records, bit for bit.

    Args:
        source: weights of any known format, local or remote.
        target: local path or gs:// URI; written under a temporary name first.

    Returns:
        One line for the user.

    Raises:
        ValueError: the source cannot be used, or is the target.
        OSError: a file cannot be read, fetched or written.
    """
    with local_copy(source) as path:
        if not files.is_remote(target) and os.path.exists(target) and os.path.samefile(path, target):
            raise ValueError(f"{target}: expected another file than the one that is converted; name a new one")
        weights = read_weights(path, shown(source))
        metadata = {SOURCE_SHA256: files.sha256_of(path), SOURCE_FORMAT: weights.format}
        size = files.publish_bytes(target, encode_weights(weights.state, metadata))
    return f"{target}: {size} bytes, {depth(weights.architecture)} from {weights.format}, {_attributes(weights)}"


def inspect(source: str) -> str:
    """Describe a weights file, with a line each for format, depth, widths, classes, attributes, size, hash and source.

    Raises:
        ValueError: the file cannot be used.
        OSError: the file cannot be read or fetched.
    """
    with local_copy(source) as path:
        weights = read_weights(path, shown(source))
        rows = {
            "file": shown(source),
            "format": weights.format,
            "network": depth(weights.architecture),
            "blocks": ", ".join(str(stage.blocks) for stage in weights.architecture.stages),
            "widths": _widths(weights.architecture),
            "classes": f"{weights.architecture.classes} and background",
            "attributes": _attributes(weights),
            "bytes": str(os.path.getsize(path)),
            "sha256": files.sha256_of(path),
        }
    if SOURCE_SHA256 in weights.metadata:
        kind, sha256 = (printable(weights.metadata.get(key, "unknown"), 64) for key in (SOURCE_FORMAT, SOURCE_SHA256))
        rows["converted from"] = f"{kind}, sha256 {sha256}"
    return "\n".join(f"{name + ':':<16}{value}" for name, value in rows.items())


def depth(net: Architecture) -> str:
    """Name a ResNet by its layers with weights: conv1, three convolutions per block, and the classifier."""
    return f"ResNet-{3 * sum(stage.blocks for stage in net.stages) + 2}"


def _widths(net: Architecture) -> str:
    stages = ", ".join(
        f"res{number} {stage.bottleneck}/{stage.channels}" for number, stage in enumerate(net.stages, start=2)
    )
    return f"conv1 {net.stem}, {stages}, RPN {net.rpn}"


def _attributes(weights: Weights) -> str:
    net = weights.architecture
    if not net.has_attribute_head:
        return "no attribute head: attributes will be zeros"
    return f"{net.attributes} attributes and none (embedding {net.embedding}, hidden {net.attribute_hidden})"
