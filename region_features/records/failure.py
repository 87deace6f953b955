"""Why an image has no record: ImageFailure is raised where it happens, Failure is how it is reported."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from region_features.records.json_text import parse_json

IMPORT_STAGE = "import"
# Of images that are not in the plan, since no shard can hold their names.
NAME_STAGE = "name"


class ImageFailure(Exception):
    """Raised when one image cannot be processed; its bundle goes on without it, and the image becomes a Failure.

    Attributes:
        stage: the step that failed: `read`, `decode`, `boxes`, `detect`, `import` or `record` (of a value that is not
            finite or out of its range).
        reason: the reason in one line.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = " ".join(reason.split())


@dataclass(frozen=True)
class Failure:
    """One line of failures.jsonl."""

    uri: str  # the image, or the file that a damaged row of the input lies in
    img_id: str  # file stem; empty if a damaged row does not say it
    stage: str  # `captions`, `name`, or a stage of ImageFailure
    reason: str  # in one line

    @classmethod
    def from_line(cls, line: bytes) -> Failure:
        """Decode a line of failures.jsonl; ValueError or TypeError if it is no failure."""
        return cls(**parse_json(line))

    @classmethod
    def from_lines(cls, data: bytes) -> list[Failure]:
        """Decode the content of failures.jsonl; raises as `from_line`."""
        return [cls.from_line(line) for line in data.split(b"\n") if line]

    def to_line(self) -> str:
        """Encode as a JSON line."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"
