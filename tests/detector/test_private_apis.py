"""Private names of torch and detectron2: used in one file each, and there in the installed versions."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec

import detectron2
import pytest
import torch
from torch import nn

from region_features.detector import torch_private
from tests.conftest import NO_ONEDNN, ROOT

ROOM = ROOT / "region_features" / "detector"
PRIVATE = ("torch_private.py", "detectron2_private.py")
FILES = sorted(path for path in ROOM.rglob("*.py") if path.name not in PRIVATE)


def foreign_private_names(source: str) -> list[str]:
    """List attributes and imports with a leading underscore that do not belong to `self` or `cls`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            names += [] if owner in ("self", "cls") else [node.attr]
        elif isinstance(node, ast.Import):
            names += [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            names += [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    return [name for name in names if name.startswith("_") and not name.startswith("__")]


def test_private_names_are_noticed() -> None:
    source = "import x._a\nfrom x._b import b\nfrom x import _c\nx.y._d(x._e)\nself._own = cls._own\nx.__dict__"
    assert sorted(foreign_private_names(source)) == ["_a", "_b", "_c", "_d", "_e"]


def test_only_two_files_of_the_detector_use_private_names() -> None:
    assert len(FILES) > 20
    assert {path.name: names for path in FILES if (names := foreign_private_names(path.read_text()))} == {}


def moved(name: str, where: str = "torch_private.py") -> str:
    version = f"torch {torch.__version__}" if where == "torch_private.py" else f"detectron2 {detectron2.__version__}"
    return f"{version} no longer has {name} as it was; see region_features/detector/{where}"


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason=NO_ONEDNN)
def test_torch_has_onednns_operators() -> None:
    for name in (*torch_private.FUSED_CONVOLUTIONS, "_is_mkldnn_bf16_supported"):
        assert hasattr(torch.ops.mkldnn, name), moved(f"torch.ops.mkldnn.{name}")
    assert torch_private.has_fused_convolutions()
    assert torch_private.cpu_has_bfloat16() in (True, False)


def test_torch_has_cudnns_operators() -> None:
    for name in ("cudnn_convolution_relu", "cudnn_convolution_add_relu"):
        assert hasattr(torch, name), moved(f"torch.{name}")


@pytest.mark.skipif(not torch_private.has_fused_convolutions(), reason=NO_ONEDNN)
@pytest.mark.parametrize("inputs", [(2, 9, 9), None])
@torch.inference_mode()
def test_onednns_operators_take_the_arguments_they_took(inputs: tuple[int, int, int] | None) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    x, onto = torch.randn(2, 4, 9, 9), torch.randn(2, 4, 9, 9)
    try:
        fused = torch_private.OneDnnConvolution(conv, inputs)
        plain, rectified, added = fused(x), fused(x, "relu"), fused.add_relu_(x, onto.clone())
    except (RuntimeError, TypeError) as error:
        pytest.fail(f"{moved('torch.ops.mkldnn._convolution_pointwise')}: {error}")
    torch.testing.assert_close(plain, conv(x))
    torch.testing.assert_close(rectified, torch.relu(conv(x)))
    torch.testing.assert_close(added, torch.relu(onto + conv(x)))


def test_detectron2_has_its_extension_module() -> None:
    where = "detectron2/detectron2_private.py"
    assert find_spec("detectron2._C"), moved("_C", where)
    from region_features.detector.detectron2.detectron2_private import has_deformable_convolutions

    compiled = any("deform" in name for name in dir(import_module("detectron2._C")))
    assert has_deformable_convolutions() == compiled, moved("_C.deform_conv_forward", where)
