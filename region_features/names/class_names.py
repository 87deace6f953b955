"""Class names: what the ids of a record's regions are called, Visual Genome's own or those of a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from region_features.records.region_record import RegionRecord


@dataclass(frozen=True)
class ClassNames:
    """The names of a network's classes; `objects_id` and `attrs_id` index them from 0, without background and "none".

    Attributes:
        objects: of each object class its name, then its aliases.
        attributes: likewise; empty for a network without attributes.
    """

    objects: tuple[tuple[str, ...], ...]
    attributes: tuple[tuple[str, ...], ...] = ()

    def object_name(self, objects_id: int) -> str:
        """Return the name of an object class; IndexError if there is no such class."""
        return self.objects[_checked(objects_id)][0]

    def attribute_name(self, attrs_id: int) -> str:
        """Return the name of an attribute; IndexError if there is no such attribute."""
        return self.attributes[_checked(attrs_id)][0]

    def fit(self, record: RegionRecord) -> bool:
        """Return whether the record's network has this many classes, as far as the record tells."""
        # A TSV row of ten columns has no probabilities, so only its largest ids are known.
        return _fits(record.cls_prob.shape[1], record.objects_id.max(initial=0), len(self.objects)) and (
            not self.attributes or _fits(record.attrs.shape[1], record.attrs_id.max(initial=0), len(self.attributes))
        )

    def describe(self, record: RegionRecord, row: int) -> str:
        """Describe a region with its confidences: `man 0.93, standing 0.41`, or `?` without classes."""
        if record.lacks("objects_id") or record.lacks("objects_conf"):
            return "?"
        words = f"{self.object_name(record.objects_id[row])} {record.objects_conf[row]:.2f}"
        if self._has_attribute(record, row):
            words += f", {self.attribute_name(record.attrs_id[row])} {record.attrs_conf[row]:.2f}"
        return words

    def phrase(self, record: RegionRecord, row: int) -> str:
        """Name a region in words: `standing man`; `?` where the record has no classes."""
        if record.lacks("objects_id"):
            return "?"
        name = self.object_name(record.objects_id[row])
        return f"{self.attribute_name(record.attrs_id[row])} {name}" if self._has_attribute(record, row) else name

    def _has_attribute(self, record: RegionRecord, row: int) -> bool:
        """Return whether a region has a named attribute: a network without attributes writes zeros."""
        known = bool(self.attributes) and not record.lacks("attrs_id") and not record.lacks("attrs_conf")
        return known and bool(record.attrs_conf[row] > 0)


def _checked(class_id: int) -> int:
    if class_id < 0:
        raise IndexError(f"expected an id from 0, got {class_id}")
    return int(class_id)


def _fits(columns: int, largest: int, count: int) -> bool:
    return columns == count + 1 if columns else largest < count


def parse_names(text: str, source: str) -> tuple[tuple[str, ...], ...]:
    """Read a file of names: a class a line in the order of the ids, aliases after commas.

    Args:
        text: the file's content.
        source: its name, for errors.

    Raises:
        ValueError: a line has no name, or there are no lines; names file and line.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines:
        raise ValueError(f"{source}: expected a name a line, got an empty file")
    names = []
    for number, line in enumerate(lines, 1):
        words = tuple(" ".join(word.split()) for word in line.split(","))
        if not words[0]:
            raise ValueError(f"{source}, line {number}: expected the name of class {number - 1}, got {line[:40]!r}")
        names.append(tuple(word for word in words if word))
    return tuple(names)


@cache
def visual_genome() -> ClassNames:
    """Return the 1600 objects and 400 attributes of Visual Genome that bottom-up attention was trained with.

    Source: Krishna et al. 2016, CC BY 4.0, see NOTICE; the choice of classes is that of Anderson et al. 2018.
    """
    return ClassNames(_read("visual_genome_objects.txt"), _read("visual_genome_attributes.txt"))


def _read(name: str) -> tuple[tuple[str, ...], ...]:
    return parse_names((files("region_features.names") / name).read_text(encoding="utf-8"), name)
