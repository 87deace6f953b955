"""Choice of the device that computes."""

from __future__ import annotations


def choose_device(device: str) -> str:
    """Return `cpu` or `cuda` for a device of `auto`, `cpu` or `cuda`; `auto` is `cuda` if torch can use a GPU.

    Raises:
        ValueError: `device` is `cuda`, and torch finds no GPU or is not installed.
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
