"""The summary that ends a run."""

from __future__ import annotations

from typing import Any

from beam_pipeline.layout import Layout
from beam_pipeline.progress.summary import describe_run, readable_size

FEATURES = "out/resnet101_faster_rcnn_genome_imgfeats"


def manifest_of(failed: int, **files: Any) -> dict[str, Any]:
    shards = {f"val2014-0000{number}-of-00002.tfrecord": {"bytes": 600_000} for number in (0, 1)}
    counts = {"in": 7, "written": 7 - failed, "failed": failed}
    return {
        "counts": counts,
        "sets": {"val2014": {**counts, "shards": 2}},
        "settings": {"min_boxes": 36, "max_boxes": 36},
        "files": {"tfrecord": shards, **files},
    }


def test_the_summary_says_what_was_written_where() -> None:
    manifest = manifest_of(
        1,
        annotations={"train_ann.jsonl": {"bytes": 1_200_000}},
        lmdb={"trainval_feat.lmdb": {"records": 6, "lmdb_form": "volta", "files": {"data.mdb": 2_500_000}}},
        tsv={"valid_obj36-36.tsv": {"rows": 6, "files": {"valid_obj36-36.tsv": 3_000_000_000}}},
        negatives={
            "hard_negative": {
                "images": 4,
                "columns": 3,
                "files": {"hard_negative.pkl": 400, "hard_negative.npz": 99},
            }
        },
    )
    assert describe_run(manifest, Layout("out")).splitlines() == [
        "val2014: 6 of 7 images in 2 shards, 1 failed",
        "out/tfrecord: 2 shards, 1.2 MB",
        "out/annotations/train_ann.jsonl: 1.2 MB",
        f"{FEATURES}/volta/trainval_feat.lmdb: 6 records, volta, 2.5 MB",
        f"{FEATURES}/valid_obj36-36.tsv: 6 rows, 3.0 GB",
        "out/hard_negative.pkl, out/hard_negative.npz: 4 images x 3, 499 bytes",
        "out/failures.jsonl: 1 failed, with the reasons",
    ]


def test_damaged_rows_of_the_inputs_are_counted() -> None:
    manifest = {**manifest_of(0), "captions": {"failed_rows": 2}, "boxes": {"failed_rows": 0}}
    assert describe_run(manifest, Layout("out")).splitlines()[-1] == (
        "out/failures.jsonl: 2 damaged rows of the captions file"
    )


def test_sizes_are_readable() -> None:
    assert [readable_size(size) for size in (0, 999, 1000, 2_000_000, 10**12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.0 MB",
        "1000.0 GB",
    ]
