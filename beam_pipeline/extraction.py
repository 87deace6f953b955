"""Which boxes a run describes, and which network describes them: `--boxes`, `--detector_config`, `--exif`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from beam_pipeline.options import Config
from beam_pipeline.usage import UsageError
from region_features.formats.boxes import parse_boxes
from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import Failure
from transforms.detection import read_detector_config


@dataclass(frozen=True)
class ExtractionOptions:
    """What was asked for beyond the bottom-up-attention network's own boxes in images as they are stored.

    Attributes:
        boxes: the boxes file, None for the network's own.
        boxes_sha256: of its content, hex.
        described: img_ids that have a line in it.
        failures: its damaged lines.
        detector: the config of another network, None for bottom-up attention's.
        exif: whether images are turned as their EXIF orientation says.
    """

    boxes: str | None = None
    boxes_sha256: str | None = None
    described: frozenset[str] = frozenset()
    failures: tuple[Failure, ...] = ()
    detector: DetectorConfig | None = None
    exif: bool = False

    def settings(self) -> dict[str, Any]:
        """What of it decides the records' bytes; nothing that is not used, so that other runs keep their settings."""
        found = {
            "boxes_sha256": self.boxes_sha256,
            "detector_config_sha256": self.detector.sha256 if self.detector else None,
            "exif": self.exif,
        }
        return {name: value for name, value in found.items() if value}

    def notes(self, images: Set[str]) -> tuple[str, ...]:
        """What the user should hear before the run, given the img_ids of its images."""
        without = len(images - self.described)
        if not self.boxes or not without:
            return ()
        return (f"{without} of {len(images)} images have no boxes in {self.boxes} and will be failures",)

    def manifest_part(self, images: Set[str]) -> dict[str, Any]:
        """What the manifest says of it, given the img_ids of the run's images."""
        part: dict[str, Any] = {}
        if self.boxes:
            part["boxes"] = {
                "file": self.boxes,
                "rows": len(self.described),
                "failed_rows": len(self.failures),
                "images_without_boxes": counted(images - self.described),
                "boxes_without_images": counted(self.described - images),
            }
        if self.detector:
            part["detector_config"] = {"file": self.detector.source, "values": self.detector.values}
        return part


def counted(names: Set[str]) -> dict[str, Any]:
    """How many, and which, for the manifest."""
    return {"count": len(names), "img_ids": sorted(names)}


def read_modes(config: Config, read: Callable[[str, str], bytes]) -> ExtractionOptions:
    """Read and check the files that the flags name.

    Args:
        config: what the user asked for.
        read: gives the content of a file, for messages with the flag that names it.

    Raises:
        UsageError: a file cannot be read, or none of a boxes file's lines can.
        ValueError: the detectron2 config cannot be used.
    """
    detector = read_detector_config(config.detector_config) if config.detector_config else None
    if not config.given_boxes:
        return ExtractionOptions(detector=detector, exif=config.exif)
    data = read(config.given_boxes, "--boxes")
    entries, failures = parse_boxes(data, config.given_boxes)
    if not entries:
        got = failures[0].reason if failures else "an empty file"
        raise UsageError(f'--boxes: expected lines {{"img_id": ..., "boxes": [[x1, y1, x2, y2], ...]}}, got: {got}')
    return ExtractionOptions(
        boxes=config.given_boxes,
        boxes_sha256=hashlib.sha256(data).hexdigest(),
        described=frozenset(entry.img_id for entry in entries),
        failures=tuple(failures),
        detector=detector,
        exif=config.exif,
    )
