"""The arithmetic that the network can run in."""

from __future__ import annotations

# float32 everywhere; products of tensor cores rounded to 10 bits; the regions' features computed in 16 bits.
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
EXACT = "float32"
# A CPU has no tensor cores, and no fast float16.
CPU_PRECISIONS = ("float32", "bfloat16")
