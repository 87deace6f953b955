"""The table of the manifest's fields in docs/outputs.md has every field that a run may write, and no other."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from beam_pipeline.flags.config import Config
from beam_pipeline.preflight import provenance
from beam_pipeline.preflight.annotations import AnnotationInput
from beam_pipeline.preflight.inputs import Inputs
from region_features.planning.catalog import Catalog
from region_features.records.audit import audit_shards
from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import Failure
from region_features.records.health_sample import HealthSample
from tests.conftest import ROOT
from tests.samples.audits import plan_of, stats_of
from transforms.detection import WeightsFacts
from transforms.input_files import PinnedFile
from transforms.listing import Listing
from transforms.manifest import build_manifest


def test_the_table_of_fields_is_that_of_a_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "object_names", lambda config: None)
    file = PinnedFile("x.json", "ab")
    inputs = Inputs(
        Catalog(),
        captions=AnnotationInput("captions", file, 1, ()),
        images=Listing(failures=(Failure("x", "x", "name", "why"),)),
        weights=WeightsFacts("ab", "caffemodel", attributes=True),
        detector=DetectorConfig("x.yaml", {}),
        given_boxes=AnnotationInput("boxes", file, 1, ()),
    )
    plan, health = plan_of({"photos": 2}), HealthSample(images=1, boxes=1, objects={"7": 1})
    audit = replace(audit_shards(plan, stats_of(plan), 0.0), health=health)
    written: set[str] = set()
    for config in (Config(images=("photos",), reuse="earlier"), Config(import_files=("old.tsv",))):
        written |= build_manifest(audit, provenance.describe_run(config, inputs, plan), [], {}).keys()
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    table = page.partition("## manifest.json")[2].partition("## ")[0]
    fields = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(fields) == sorted(written)
