"""detectron2's config files have the values that detectron2 reads, and run nothing."""

from __future__ import annotations

from pathlib import Path

import detectron2
import pytest
from detectron2.config import CfgNode

from region_features.detector.detectron2.config_file import read_config
from region_features.detector.errors import ConfigError

ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"
FPN = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"


def read(path: object) -> dict:
    return dict(read_config(str(path), lambda name: Path(name).read_bytes()).values)


def error_of(path: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
        FPN,
        "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
        "Base-RCNN-FPN.yaml",
    ],
)
def test_a_config_of_the_model_zoo_has_the_values_that_detectron2_reads(name: str) -> None:
    assert read(name) == read(ZOO / name) == CfgNode.load_yaml_with_base(str(ZOO / name))


def test_bases_may_be_files_relative_to_the_config_or_names_of_the_model_zoo(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text(f"_BASE_: {FPN}\nMODEL:\n  RPN: {{POST_NMS_TOPK_TEST: 7}}\nVERSION: 2\n")
    config = tmp_path / "sub" / "config.yaml"
    config.write_text("_BASE_: ../base.yaml\nINPUT: {MIN_SIZE_TEST: 100}\n")
    values = read(config)
    assert values["MODEL"]["RPN"]["POST_NMS_TOPK_TEST"] == 7 and values["MODEL"]["RPN"]["PRE_NMS_TOPK_TEST"] == 1000
    assert values["INPUT"]["MIN_SIZE_TEST"] == 100 and "_BASE_" not in values
    (tmp_path / "sub" / "two.yaml").write_text("_BASE_: [../base.yaml, config.yaml]\nMODEL: {MASK_ON: true}\n")
    assert read(tmp_path / "sub" / "two.yaml")["INPUT"]["MIN_SIZE_TEST"] == 100


def test_a_local_file_is_preferred_to_the_model_zoos_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Base-RCNN-FPN.yaml").write_text("VERSION: 2\n")
    monkeypatch.chdir(tmp_path)
    assert read("Base-RCNN-FPN.yaml") == {"VERSION": 2}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['false']", "!!python/name:os.system ''"])
def test_python_tags_are_refused_in_a_base_and_inside_lists(tag: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: [1, {tag}]\n")
    (tmp_path / "config.yaml").write_text("_BASE_: base.yaml\n")
    message = error_of(tmp_path / "config.yaml")
    assert "MODEL.ANCHOR_GENERATOR.SIZES: the YAML tag !!python/" in message and "refused" in message


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", "got 'RetinaNet'"),
        ("COCO-Detection/rpn_R_50_FPN_1x.yaml", "got 'ProposalNetwork'"),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml", "got 'PrecomputedProposals'"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", "got 'CascadeROIHeads'"),
        ("Misc/semantic_R_50_FPN_1x.yaml", "got 'SemanticSegmentor'"),
    ],
)
def test_a_kind_of_network_without_describable_regions_is_named(name: str, kind: str) -> None:
    message = error_of(name)
    assert message.startswith(f"{name}: expected an R-CNN") and kind in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a detectron2 config in YAML, lines of `NAME: VALUE`, got nothing"),
        ("[1, 2]", "got [1, 2]"),
        ("a: [", "expected a detectron2 config in YAML"),
        ("\x00", "expected a detectron2 config in YAML"),
        ("a: !unknown 1", "expected a detectron2 config in YAML"),
        ("MODEL: {DATE: 2020-01-01}", "MODEL.DATE: expected text or a number, got a date"),
        ("MODEL: {1: 2}", "MODEL: expected a name, got 1"),
        ("MODEL: {!!python/name:os.system '': 2}", "MODEL: expected a name, got "),
        ("_BASE_: 7", "_BASE_: expected the name of a file, got 7"),
        ("_BASE_: !!python/name:os.system ''", "_BASE_: expected the name of a file, got "),
        ("_BASE_: [x, {}]", "x: expected a detectron2 config, got: No such file"),
        ("_BASE_: config.yaml", "expected bases that come to an end"),
        ("_BASE_: ../../etc/passwd.yaml", "expected a detectron2 config, got: No such file"),
        ("MODEL: &a {B: *a}", "got more than 100000 values"),
        ("_BASE_: base.yaml\nMODEL: 3", "got more than 100000 values"),
        ("_BASE_: base.yaml\nX: {A: 1}", "X: expected a single value as in its base"),
        ("x: " + "[" * 3000 + "]" * 3000, "expected a detectron2 config"),
    ],
)
def test_a_file_that_is_no_config_gets_an_error_that_names_it(text: str, words: str, tmp_path: Path) -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    (tmp_path / "base.yaml").write_text(f"X: 1\nl0: &l0 [1]\n{levels}\n")
    (tmp_path / "config.yaml").write_text(text)
    message = error_of(tmp_path / "config.yaml")
    assert words in message and str(tmp_path) in message


def test_without_detectron2_files_are_read_but_the_model_zoo_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    assert read(tmp_path / "config.yaml") == {"VERSION": 2}
    assert error_of(FPN).startswith(f"{FPN}: expected a detectron2 config, got: No such file")


def test_a_file_too_large_for_a_config_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * (2 << 20))
    assert "got a file of 2097152 bytes" in error_of(tmp_path / "big.yaml")
    assert "or one of detectron2's model zoo" in error_of("COCO-Detection/none.yaml")


def test_the_digest_depends_on_the_values_only(tmp_path: Path) -> None:
    for name, text in (("a", "X: 1\nY: {Z: 2}\n"), ("b", "# the same\nY:\n  Z: 2\nX: 1\n"), ("c", "X: 1\nY: {Z: 3}\n")):
        (tmp_path / name).write_text(text)
    compact, commented, different = (
        read_config(str(tmp_path / name), lambda path: Path(path).read_bytes()).sha256 for name in ("a", "b", "c")
    )
    assert compact == commented != different
