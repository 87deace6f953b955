"""Names of the object and attribute classes that the ids of a record index."""

from region_features.names.class_names import ClassNames, parse_names, visual_genome

__all__ = ["ClassNames", "parse_names", "visual_genome"]
