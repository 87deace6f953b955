"""Which device computes: `auto`, `cpu` or `cuda` as the user says it, `cpu` or `cuda` as torch takes it."""

from __future__ import annotations


def choose_device(device: str) -> str:
    """Return `cpu` or `cuda` for a device of `auto`, `cpu` or `cuda`; `auto` is `cuda` where torch can use a GPU.

    Raises:
        ValueError: `cuda` was asked for, and torch finds no GPU or is not installed.
    """
    if device == "cpu":
        return "cpu"
    try:
        import torch

        available = torch.cuda.is_available()
    except ImportError:
        available = False
    if device == "cuda" and not available:
        raise ValueError("--device cuda: expected a GPU that torch can use, found none; use --device cpu or auto")
    return "cuda" if available else "cpu"
