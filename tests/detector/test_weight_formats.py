"""One random network gives the same records from every format; a broken file gets an error of one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.full_size_weights import write_caffemodel
from region_features.detector import Detector, WeightsError
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.detector.weights.caffemodel import read_caffemodel
from region_features.detector.weights.restricted_pickle import model_arrays, unpickle
from region_features.detector.weights.state import state_shapes
from region_features.detector.weights.weights_file import read_weights
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS
from tests.detector.conftest import TESTS, golden
from tests.samples.weight_files import (
    HEAD,
    RPN,
    WRITERS,
    Arrays,
    bua_state,
    caffe_order,
    detectron2_order,
    save,
    tensors,
    without_attributes,
    write_pickle,
)

IMAGES = ("s20x20", "s32x64", "s37x900")


def records(path: Path) -> list[RegionRecord]:
    results = Detector.load(str(path), "cpu", SelectionRule()).detect([golden(name).image for name in IMAGES])
    assert len(results) == len(IMAGES) and all(isinstance(result, RegionRecord) for result in results)
    return [result for result in results if isinstance(result, RegionRecord)]


@pytest.fixture(scope="module")
def expected() -> list[RegionRecord]:
    torch.set_num_threads(2)
    return records(TINY_WEIGHTS)


def assert_close(actual: list[RegionRecord], expected: list[RegionRecord], with_attributes: bool = True) -> None:
    fields = ["boxes", "objects_id", "objects_conf", "features", "cls_prob"]
    fields += ["attrs_id", "attrs_conf", "attrs"] if with_attributes else []
    for record, other in zip(actual, expected, strict=True):
        for field in fields:
            numbers, others = getattr(record, field), getattr(other, field)
            np.testing.assert_allclose(numbers, others, rtol=0, atol=1e-5, err_msg=f"{record.img_id} {field}")


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_records(tmp_path: Path, expected: list[RegionRecord], kind: str) -> None:
    # A name of another format than the content's.
    path = tmp_path / "weights.prototxt"
    name, write = WRITERS[kind]
    write(path)
    assert read_weights(path).format == name
    assert_close(records(path), expected)


def test_formats_in_caffes_order_give_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    expected = read_caffe_weights(TINY_WEIGHTS)
    for kind in ("caffemodel-v1", "bua-zip", "bua-legacy", "safetensors"):
        WRITERS[kind][1](tmp_path / kind)
        weights = read_weights(tmp_path / kind)
        assert weights.architecture == expected.architecture and weights.state.keys() == expected.state.keys()
        for layer, array in expected.state.items():
            np.testing.assert_array_equal(weights.state[layer], array, err_msg=f"{kind} {layer}")


def test_rows_in_the_wrong_order_find_other_regions(tmp_path: Path, expected: list[RegionRecord]) -> None:
    """Show that the test of every format can fail."""
    arrays = detectron2_order()
    deltas = f"{RPN}.anchor_deltas.weight"
    arrays[deltas] = caffe_order()[deltas]
    write_pickle(tmp_path / "w.pkl", arrays)
    boxes = [record.boxes for record in records(tmp_path / "w.pkl")]
    assert not all(
        wrong.shape == right.boxes.shape and np.allclose(wrong, right.boxes, atol=1)
        for wrong, right in zip(boxes, expected, strict=True)
    )


def test_the_state_has_the_networks_names_and_shapes() -> None:
    weights = read_caffe_weights(TINY_WEIGHTS)
    assert {name: array.shape for name, array in weights.state.items()} == state_shapes(weights.architecture)


@pytest.mark.parametrize("kind", ["pickle", "caffemodel", "bua"])
def test_without_an_attribute_head_attributes_are_zeros(
    tmp_path: Path, expected: list[RegionRecord], kind: str
) -> None:
    path = tmp_path / "w"
    if kind == "caffemodel":
        layers = {name: blobs for name, blobs in read_caffemodel(TINY_WEIGHTS).items() if "attr" not in name}
        del layers["cls_embedding"]
        write_caffemodel(path, {name: ("", blobs) for name, blobs in layers.items()})
    elif kind == "pickle":
        write_pickle(path, without_attributes(detectron2_order()))
    else:
        save(tensors(without_attributes(caffe_order())), path, zipped=True)
    assert not read_weights(path).architecture.has_attribute_head
    actual = records(path)
    assert_close(actual, expected, with_attributes=False)
    for record, other in zip(actual, expected, strict=True):
        assert record.attrs.shape == other.attrs.shape == (len(record.boxes), 401)
        assert not record.attrs.any() and not record.attrs_id.any() and not record.attrs_conf.any()


def test_files_without_bbox_pred_are_read(tmp_path: Path) -> None:
    for kind, arrays in (("caffe", caffe_order()), ("detectron2", detectron2_order())):
        for key in ("weight", "bias"):
            del arrays[f"{HEAD}.bbox_pred.{key}"]
        write_pickle(tmp_path / kind, arrays)
        assert read_weights(tmp_path / kind).state.keys() == read_caffe_weights(TINY_WEIGHTS).state.keys()


def test_half_and_double_precision_become_float32(tmp_path: Path) -> None:
    expected = read_caffe_weights(TINY_WEIGHTS).state
    doubled = {name: tensor.double() for name, tensor in bua_state().items()}
    save(doubled, tmp_path / "double.pth", zipped=True)
    for name, array in read_weights(tmp_path / "double.pth").state.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name])
    write_pickle(tmp_path / "half.pkl", {name: array.astype(np.float16) for name, array in caffe_order().items()})
    assert read_weights(tmp_path / "half.pkl").state["backbone.stem.conv1.weight"].dtype == np.float32


def test_transposed_and_shared_tensors_are_read(tmp_path: Path) -> None:
    name = f"{HEAD}.cls_score.weight"
    state = bua_state()
    joint = torch.cat([state[name].flatten(), state[f"{HEAD}.cls_score.bias"]])
    rows = state[name].numel()
    state[name] = torch.nn.Parameter(joint[:rows].view(state[name].T.shape).T)
    state[f"{HEAD}.cls_score.bias"] = joint[rows:]
    for zipped in (True, False):
        save(state, tmp_path / "w.pth", zipped)
        weights = read_weights(tmp_path / "w.pth").state
        np.testing.assert_array_equal(weights[name], state[name].detach().numpy())
        np.testing.assert_array_equal(weights[f"{HEAD}.cls_score.bias"], joint[rows:].numpy())


def test_a_pickle_of_python_2_with_bytes_as_text_is_read() -> None:
    numbers = np.array([[1.5, -2.0]], np.float32)
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x01K\x02t"
    head = b"\x80\x02}U\x05modelccollections\nOrderedDict\n(]](U\x01x"
    pickled = head + array + dtype + b"\x89U\x08" + numbers.tobytes() + b"tbeatRs."
    arrays = model_arrays(unpickle(BytesIO(pickled), "old.pkl"), "old.pkl")
    np.testing.assert_array_equal(arrays["x"], numbers)


def test_arrays_in_fortran_order_are_read(tmp_path: Path) -> None:
    for protocol in (2, 5):
        name = f"{HEAD}.cls_score.weight"
        arrays = {**caffe_order(), name: np.asfortranarray(caffe_order()[name])}
        write_pickle(tmp_path / "w.pkl", arrays, protocol)
        np.testing.assert_array_equal(read_weights(tmp_path / "w.pkl").state[name], caffe_order()[name])


def changed(**layers: np.ndarray | None) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name, array in layers.items():
            del arrays[name]
            if array is not None:
                arrays[name] = array

    return change


SHORTCUT = "backbone.res3.0.shortcut.norm.running_var"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(**{f"{RPN}.conv.weight": None}), f"layer {RPN}.conv.weight is missing"),
        (changed(**{SHORTCUT: None}), f"layer {SHORTCUT} is missing"),
        (changed(**{"backbone.res4.0.conv2.weight": None}), r"layer backbone\.res4\.0\.conv2\.weight is missing"),
        (changed(**{f"{HEAD}.attr_score.weight": None}), f"layer {HEAD}.attr_score.weight is missing"),
        (changed(**{f"{HEAD}.cls_embedding.weight": None}), f"layer {HEAD}.cls_embedding.weight is missing"),
        (changed(**{f"{HEAD}.fc_attr.bias": np.zeros(31, np.float32)}), r"fc_attr\.bias: expected .*\(32,\), got .*31"),
        (changed(**{f"{HEAD}.cls_score.bias": np.zeros(1601, np.int64)}), r"cls_score\.bias: expected floats .*int64"),
        (
            changed(**{f"{RPN}.objectness_logits.weight": np.zeros((15, 32, 1, 1), np.float32)}),
            "objectness_logits.weight: expected 12 or 24 rows, got 15",
        ),
        (
            changed(**{f"{HEAD}.bbox_pred.weight": np.zeros((6404, 64), np.float32)}),
            "12 objectness rows and 6404 bbox_pred rows contradict",
        ),
        (changed(**{"backbone.stem.conv1.weight": np.zeros(0, np.float32)}), "conv1.weight: expected weights of 4"),
    ],
)
def test_a_missing_or_misshapen_layer_is_named(tmp_path: Path, change: Callable[[Arrays], None], message: str) -> None:
    arrays = detectron2_order()
    change(arrays)
    write_pickle(tmp_path / "wrong.pkl", arrays)
    with pytest.raises(WeightsError, match=message) as raised:
        read_weights(tmp_path / "wrong.pkl")
    assert str(tmp_path / "wrong.pkl") in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.00001, 0.0001, 0.01, 0.3, 0.7, 0.99, 0.999999])
def test_a_truncated_file_is_named(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "short.file"
    WRITERS[kind][1](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"short\.file.*expected") as raised:
        read_weights(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["bua-zip", "bua-legacy"])
def test_a_file_damaged_in_the_middle_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "damaged.pth"
    WRITERS[kind][1](path)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.pth"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file; copy it again"),
        (b"\n <!DOCTYPE html><title>404</title>", "got a web page"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "got a JPEG image; images are named by --images"),
        (b"\x89PNG\r\n\x1a\n\0", "got a PNG image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip archive"),
        (b"PK\x05\x06" + bytes(18), "without one data.pkl"),
        (bytes(range(256)) * 40, "another known format"),
        (b"\x80\x04}.", "expected named arrays"),
        (b"\x80\x04K\x01.", "expected named arrays.*got no dict"),
        (b"\x80\x04}\x8c\x05blobsK\x01s.", "expected named arrays.*got blobs"),
    ],
)
def test_a_file_that_holds_no_weights_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "wrong.pkl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as raised:
        read_weights(path, "gs://bucket/wrong.pkl")
    assert str(raised.value).startswith("gs://bucket/wrong.pkl")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.pth")


def test_no_format_needs_torch(tmp_path: Path) -> None:
    paths = []
    for kind, (_, write) in WRITERS.items():
        paths.append(str(tmp_path / kind))
        write(tmp_path / kind)
    code = (
        "import sys; from region_features.detector.weights.weights_file import read_weights; "
        "formats = [read_weights(path).format for path in sys.argv[1:]]; "
        "print(len(formats), [name for name in ('torch', 'detectron2', 'apache_beam') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=TESTS.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{len(WRITERS)} []"
