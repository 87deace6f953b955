"""What can go wrong with one image, with a weights file and with a config."""

from __future__ import annotations


class DetectionError(Exception):
    """The network has no answer for this image; the message says why in words."""


class WeightsError(ValueError):
    """A weights file cannot be used; the message names the file, and the layer where there is one."""


class ConfigError(ValueError):
    """A detectron2 config cannot be used; the message names the file, and the value where there is one."""


class DeviceLostError(RuntimeError):
    """The GPU answers no more; nothing else can be detected by this process."""
