"""Why one image gave no record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

IMPORT_STAGE = "import"


class ImageFailure(Exception):
    """One image failed; its neighbours go on.

    Attributes:
        stage: where it failed: `read`, `decode`, `boxes`, `detect` or `import`.
        reason: one line in words.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = " ".join(reason.split())


@dataclass(frozen=True)
class Failure:
    """One line of failures.jsonl: what was lost, where, and why."""

    uri: str
    img_id: str
    stage: str
    reason: str

    @classmethod
    def from_line(cls, line: bytes) -> Failure:
        """The failure of a line of failures.jsonl.

        Raises:
            ValueError, TypeError: it is none.
        """
        return cls(**json.loads(line))

    @classmethod
    def from_lines(cls, data: bytes) -> list[Failure]:
        """The failures of a whole failures.jsonl; raises as `from_line`."""
        return [cls.from_line(line) for line in data.split(b"\n") if line]

    def to_line(self) -> str:
        """The failure as a JSON line."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"
