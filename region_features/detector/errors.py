"""Errors of the detector: of one image, of a weights file, of a config, of the device."""

from __future__ import annotations


class DetectionError(Exception):
    """The network finds no regions in this image; the message says why in words."""


class WeightsError(ValueError):
    """A weights file cannot be used; the message names the file, and the layer if there is one."""


class ConfigError(ValueError):
    """A detectron2 config cannot be used; the message names the file, and the value if there is one."""


class DeviceLostError(RuntimeError):
    """The GPU no longer computes: this process can detect nothing more."""
