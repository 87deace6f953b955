"""Names of a detectron2 network's classes, from the metadata of the data sets it was trained with."""

from __future__ import annotations

import importlib.util

from region_features.records.detector_config import DetectorConfig


def object_names(config: DetectorConfig) -> tuple[str, ...] | None:
    """Return the names of the config's classes as detectron2's catalog has them for its first training set.

    Returns:
        A name a class, or None: detectron2 is not installed, knows no such data set, or knows it with another number
        of classes.

    Raises:
        ConfigError: as `full_config`.
    """
    if importlib.util.find_spec("detectron2") is None:
        return None
    from detectron2.data import MetadataCatalog

    from region_features.detector.detectron2.detector import full_config

    cfg = full_config(config, "cpu")
    for name in cfg.DATASETS.TRAIN[:1]:
        names = MetadataCatalog.get(name).get("thing_classes")
        if names is not None and len(names) == cfg.MODEL.ROI_HEADS.NUM_CLASSES:
            return tuple(names)
    return None
