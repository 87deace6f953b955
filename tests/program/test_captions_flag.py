"""A captions file is judged as a whole before any work starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.options import parse_args
from beam_pipeline.preflight import check
from beam_pipeline.usage import UsageError
from tests.conftest import TINY_WEIGHTS, karpathy_row


def captions_error(corpus: Path, tmp_path: Path, rows: list[Any], *flags: str) -> str:
    captions, out = tmp_path / "captions.json", tmp_path / "out"
    captions.write_text(json.dumps({"images": rows}))
    images = ["--images", str(corpus / "images" / "val2014"), "--captions", str(captions)]
    with pytest.raises(UsageError) as raised:
        check(parse_args([*images, "--weights", str(TINY_WEIGHTS), "--output", str(out), *flags])[0])
    assert not out.exists()
    return str(raised.value)


def test_captions_without_a_usable_row_are_refused_before_the_work(corpus: Path, tmp_path: Path) -> None:
    flickr = {key: value for key, value in karpathy_row("val2014", "1.jpg", 1, "train").items() if key != "cocoid"}
    message = captions_error(corpus, tmp_path, [flickr, flickr], "--caption_threshold", "1")
    assert "none of 2 is usable" in message and "images[0]: missing field 'cocoid'" in message
    assert "none of 0 is usable" in captions_error(corpus, tmp_path, [])


def test_too_many_damaged_captions_are_refused_before_the_work(corpus: Path, tmp_path: Path) -> None:
    rows = [karpathy_row("val2014", f"{number}.jpg", number, "train") for number in range(1, 9)]
    message = captions_error(corpus, tmp_path, [*rows, None])
    assert "1 of 9 rows are damaged, more than --caption_threshold 0.01 allows; " in message
    assert "images[8]: " in message
