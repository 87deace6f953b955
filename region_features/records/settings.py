"""Settings of an extraction: the rule that selects regions, and the arithmetic of the network."""

from __future__ import annotations

from dataclasses import dataclass

# float32 everywhere; tensor cores that round products to 10 bits; the regions' features computed in 16 bits.
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
FLOAT32 = "float32"
# Largest width x height: of photographs of any camera, and less than what a decompression bomb claims.
PIXEL_LIMIT = 89_000_000
# A CPU has no tensor cores, and no fast float16.
CPU_PRECISIONS = ("float32", "bfloat16")


def check_cpu_precision(precision: str) -> None:
    """Raise a ValueError for a precision that no CPU has, naming those it has."""
    if precision not in CPU_PRECISIONS:
        raise ValueError(f"--precision {precision}: a CPU does {' or '.join(CPU_PRECISIONS)} only; use one of them")


@dataclass(frozen=True)
class SelectionRule:
    """How many regions an image keeps: those over the threshold, at least `minimum`, at most `maximum`.

    Numbers that contradict each other are a ValueError.
    """

    minimum: int = 36
    maximum: int = 36
    threshold: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(
                f"expected 1 <= min_boxes <= max_boxes, got {self.minimum} and {self.maximum}; "
                "give both, --min_boxes 10 --max_boxes 100 for example"
            )
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"expected conf_threshold between 0 and 1, got {self.threshold}")


DEFAULT_SELECTION = SelectionRule()
