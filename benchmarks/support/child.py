"""Benchmarks that need a process of their own: started by their module's name, answering with one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).resolve().parents[2]


def answer_of(module: str, *arguments: str) -> dict[str, Any]:
    """What a module prints as its last line, run in a process of its own.

    Raises:
        RuntimeError: it failed; holds its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise RuntimeError(f"python -m {module} {' '.join(arguments)} ended with status {done.returncode}:\n{words}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_bytes(device: str) -> int:
    """This process's peak: of tensors on a GPU, else of the whole process.

    Linux's own count of the process: that of getrusage would include the parent's.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
