"""Read a detectron2 config file safely and without detectron2: `_BASE_` is followed, python tags are refused.

detectron2's own reader falls back to `yaml.unsafe_load`, with which a config file can run any program. fvcore's safe
`load_yaml_with_base` finds no base on gs:// or in the model zoo, and fails at a python tag before the network's kind is
known: hence the merging here.
"""

from __future__ import annotations

import importlib.util
import os
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from region_features.detector.errors import ConfigError
from region_features.records.detector_config import DetectorConfig

Read = Callable[[str], bytes]
_BASE = "_BASE_"
_LARGEST = 1 << 20
_MOST_VALUES = 100_000  # aliases let a small file stand for gigabytes
_DEEPEST = 20
# Name in the config -> detectron2's default, and the kinds whose regions can be described here.
_KINDS = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", ("GeneralizedRCNN", "PanopticFPN")),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN", ("RPN",)),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads", ("Res5ROIHeads", "StandardROIHeads")),
}


@dataclass(frozen=True)
class _PythonTag:
    """Stands for a value that only running Python could give; refused later, so that the kind is checked first."""

    tag: str


class _Loader(yaml.SafeLoader):
    """The safe loader, but with `_PythonTag` in place of values with python tags."""


_Loader.add_multi_constructor(
    "tag:yaml.org,2002:python/", lambda loader, suffix, node: _PythonTag(f"!!python/{suffix}")
)


def read_config(path: str, read: Read) -> DetectorConfig:
    """Read the config of a detectron2 R-CNN with its bases merged in.

    Args:
        path: a YAML file, or the name of one in detectron2's model zoo; so may each `_BASE_` be, relative to the file
            that names it.
        read: returns a file's content.

    Raises:
        ConfigError: it cannot be read, holds more than plain values, or is of no R-CNN whose regions can be described;
            one line that names the file.
    """
    try:
        config = DetectorConfig(path, _read_with_bases(path, path, read, ()))
    except RecursionError as error:  # an alias within itself
        raise ConfigError(f"{path}: expected a detectron2 config, got values nested without end") from error
    _check_kind(config)
    _check_plain(config.values, path)
    return config


def _read_with_bases(name: str, path: str, read: Read, chain: tuple[str, ...]) -> dict[str, Any]:
    """Merge the values of the file `path`, or else of the model zoo's `name`, over those of its bases."""
    file, data = _find(name, path, read)
    if file in chain or len(chain) == _DEEPEST:
        raise ConfigError(f"{chain[0]}: expected bases that come to an end, got {' -> '.join((*chain, file))}")
    values = _parse(data, file)
    bases = values.pop(_BASE, [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base:
            raise ConfigError(f"{file}, {_BASE}: expected the name of a file, got {base!r:.80}")
        _merge(_read_with_bases(base, _relative_to(file, base), read, (*chain, file)), merged, file)
    _merge(values, merged, file)
    return merged


def _relative_to(file: str, base: str) -> str:
    """Return the path of a file's base."""
    if "://" in base or base.startswith("/"):
        return base
    if base.startswith("~"):
        return os.path.expanduser(base)
    # Not normalised: a folder on the way may be a link.
    return posixpath.join(posixpath.dirname(file), base)


def _find(name: str, path: str, read: Read) -> tuple[str, bytes]:
    """Return path and content of a file or, if there is none, of the model zoo's file of that name."""
    try:
        return path, read(path)
    except (OSError, ValueError) as error:
        zoo = _in_model_zoo(name)
        if zoo:
            return str(zoo), zoo.read_bytes()
        reason = getattr(error, "strerror", None) or error
        known = "" if importlib.util.find_spec("detectron2") else " (not known here: detectron2 is not installed)"
        raise ConfigError(
            f"{path}: expected a detectron2 config, got: {reason}; name a YAML file, or one of detectron2's model zoo"
            f"{known}, such as COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
        ) from error


def _in_model_zoo(name: str) -> Path | None:
    spec = importlib.util.find_spec("detectron2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        config = Path(folder, "model_zoo", "configs", name)
        if ".." not in config.parts and not name.startswith("/") and config.is_file():
            return config
    return None


def _parse(data: bytes, path: str) -> dict[str, Any]:
    if len(data) > _LARGEST:
        raise ConfigError(f"{path}: expected a detectron2 config, got a file of {len(data)} bytes")
    try:
        values = yaml.load(data, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected a detectron2 config in YAML, got: {reason}") from error
    if not isinstance(values, dict):
        got = "nothing" if values is None else f"{values!r:.80}"
        raise ConfigError(f"{path}: expected a detectron2 config in YAML, lines of `NAME: VALUE`, got {got}")
    return values


def _merge(values: Mapping[str, Any], into: dict[str, Any], path: str) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and name in into:
            if not isinstance(into[name], dict):
                raise ConfigError(f"{path}, {name}: expected a single value as in its base, got a group of them")
            _merge(value, into[name], path)
        else:
            into[name] = value


def _check_kind(config: DetectorConfig) -> None:
    for name, (default, known) in _KINDS.items():
        kind = config.value(name, default)
        if kind not in known:
            raise ConfigError(
                f"{config.source}: expected an R-CNN with a proposal network and one box head ({name} "
                f"{' or '.join(known)}), got {kind!r:.80}, whose regions cannot be described; take a faster_rcnn or "
                "mask_rcnn config"
            )


def _check_plain(values: Mapping[str, Any], path: str) -> None:
    """Raise ConfigError if a value is no text, number, truth value, None, list, or dict with texts as keys."""
    pending: list[tuple[str, Any]] = [("", values)]
    seen = 0
    while pending:
        name, value = pending.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ConfigError(f"{path}: expected a detectron2 config, got more than {_MOST_VALUES} values")
        if isinstance(value, _PythonTag):
            raise ConfigError(
                f"{path}, {name}: the YAML tag {value.tag}, which can run programs, is refused: write it out"
            )
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise ConfigError(f"{path}, {name}: expected a name, got {key!r:.80}")
                pending.append((f"{name}.{key}".lstrip("."), inner))
        elif isinstance(value, list):
            pending.extend((name, inner) for inner in value)
        elif not isinstance(value, str | int | float | bool | None):
            raise ConfigError(f"{path}, {name}: expected text or a number, got a {type(value).__name__}")
