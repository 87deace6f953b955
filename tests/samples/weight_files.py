"""The narrow network in every format of weights that is read.

Nothing here uses the readers: names, orders of rows and the place of the background are written down once more.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from region_features.detector.weights.caffemodel import Blobs, NetParameter, read_caffemodel
from tests.conftest import TINY_WEIGHTS

Arrays = dict[str, NDArray[Any]]
RPN, HEAD = "proposal_generator.rpn_head", "roi_heads.box_predictor"
# Caffe's index of each anchor of detectron2: ratio-major in Caffe (3 ratios of 4 scales each), size-major there.
CAFFE_ANCHOR = [ratio * 4 + scale for scale in range(4) for ratio in range(3)]
# The narrow network's blocks: Caffe's name -> the module's.
BLOCKS = {
    "2a": "backbone.res2.0",
    "3a": "backbone.res3.0",
    "4a": "backbone.res4.0",
    "4b1": "backbone.res4.1",
    "5a": "roi_heads.res5.0",
    "5b": "roi_heads.res5.1",
}
BRANCHES = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}


def _convolution(layers: dict[str, Blobs], conv: str, suffix: str, module: str) -> Arrays:
    mean, variance, factor = layers[f"bn{suffix}"]
    gamma, beta = layers[f"scale{suffix}"]
    scale = np.float32(1 / factor[0])
    return {
        f"{module}.weight": layers[conv][0],
        f"{module}.norm.weight": gamma,
        f"{module}.norm.bias": beta,
        f"{module}.norm.running_mean": mean * scale,
        f"{module}.norm.running_var": variance * scale,
    }


def caffe_order() -> Arrays:
    """Return the network under detectron2's module names, all rows in Caffe's order."""
    layers = read_caffemodel(TINY_WEIGHTS)
    arrays = _convolution(layers, "conv1", "_conv1", "backbone.stem.conv1")
    for block, module in BLOCKS.items():
        for branch, name in BRANCHES.items():
            if f"res{block}_{branch}" in layers:
                arrays.update(_convolution(layers, f"res{block}_{branch}", f"{block}_{branch}", f"{module}.{name}"))
    for layer, module in (
        ("rpn_conv/3x3", f"{RPN}.conv"),
        ("rpn_cls_score", f"{RPN}.objectness_logits"),
        ("rpn_bbox_pred", f"{RPN}.anchor_deltas"),
        ("cls_score", f"{HEAD}.cls_score"),
        ("bbox_pred", f"{HEAD}.bbox_pred"),
        ("fc_attr", f"{HEAD}.fc_attr"),
        ("attr_score", f"{HEAD}.attr_score"),
    ):
        arrays[f"{module}.weight"], arrays[f"{module}.bias"] = layers[layer]
    arrays[f"{HEAD}.cls_embedding.weight"] = layers["cls_embedding"][0]
    return arrays


def detectron2_order() -> Arrays:
    """Return it as ports to detectron2 do: one logit an anchor, anchors size-major, background and "none" last."""
    arrays = caffe_order()
    for key in ("weight", "bias"):
        logits = arrays[f"{RPN}.objectness_logits.{key}"].astype(np.float64)
        single = (logits[12:] - logits[:12]).astype(np.float32)
        arrays[f"{RPN}.objectness_logits.{key}"] = np.stack([single[i] for i in CAFFE_ANCHOR])
        deltas = arrays[f"{RPN}.anchor_deltas.{key}"]
        arrays[f"{RPN}.anchor_deltas.{key}"] = np.concatenate([deltas[4 * i : 4 * i + 4] for i in CAFFE_ANCHOR])
        arrays[f"{HEAD}.bbox_pred.{key}"] = arrays[f"{HEAD}.bbox_pred.{key}"][4:]
    for name in ("cls_score.weight", "cls_score.bias", "cls_embedding.weight", "attr_score.weight", "attr_score.bias"):
        rows = arrays[f"{HEAD}.{name}"]
        arrays[f"{HEAD}.{name}"] = np.concatenate([rows[1:], rows[:1]])
    return arrays


def without_attributes(arrays: Arrays) -> Arrays:
    """Return the arrays without those of the attribute head."""
    return {name: array for name, array in arrays.items() if "attr" not in name and "cls_emb" not in name}


def tensors(arrays: Arrays) -> OrderedDict[str, torch.Tensor]:
    """Return the arrays as a state dict."""
    return OrderedDict((name, torch.from_numpy(np.array(array))) for name, array in arrays.items())


def bua_state() -> OrderedDict[str, torch.Tensor]:
    """Return it under the names of MILVLG's port, which stores the anchors, in Caffe's order."""
    renamed = {"cls_embedding": "cls_embed", "fc_attr": "attr_linear1", "attr_score": "attr_linear2"}
    arrays = caffe_order()
    for ours, theirs in renamed.items():
        for key in ("weight", "bias"):
            if f"{HEAD}.{ours}.{key}" in arrays:
                arrays[f"{HEAD}.{theirs}.{key}"] = arrays.pop(f"{HEAD}.{ours}.{key}")
    arrays["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((12, 4), np.float32)
    return tensors(arrays)


def huggingface_state() -> OrderedDict[str, torch.Tensor]:
    """Return it as transformers saves it: batch norms count batches and have gamma and beta."""
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, tensor in tensors(detectron2_order()).items():
        state[name.replace("norm.weight", "norm.gamma").replace("norm.bias", "norm.beta")] = tensor
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    state["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(12, 4)
    return state


def write_caffemodel(path: Path) -> None:
    """Write it as Caffe does."""
    path.write_bytes(TINY_WEIGHTS.read_bytes())


def write_caffemodel_v1(path: Path) -> None:
    """Write it as Caffe did in 2014: in the V1 layer field, with shapes of four dimensions."""
    net = NetParameter()
    for name, blobs in read_caffemodel(TINY_WEIGHTS).items():
        layer = net.layers.add(name=name.encode())
        for blob in blobs:
            num, channels, height, width = (1,) * (4 - blob.ndim) + blob.shape
            layer.blobs.add(num=num, channels=channels, height=height, width=width, data=[blob.tobytes()])
    path.write_bytes(net.SerializeToString())


def write_pickle(path: Path, arrays: Arrays, protocol: int = 2) -> None:
    """Write arrays as detectron2's model zoo does."""
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, protocol))


def write_safetensors(path: Path) -> None:
    """Write the arrays with the safetensors package."""
    from safetensors.numpy import save_file

    save_file({name: np.array(array) for name, array in caffe_order().items()}, path)


def save(content: Any, path: Path, zipped: bool) -> None:
    """Write with torch.save, in its zip format or its older one."""
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "caffemodel": ("caffemodel", write_caffemodel),
    "caffemodel-v1": ("caffemodel", write_caffemodel_v1),
    "pickle": ("detectron2-pickle", lambda path: write_pickle(path, detectron2_order())),
    "pickle-protocol-0": ("detectron2-pickle", lambda path: write_pickle(path, detectron2_order(), 0)),
    "pickle-protocol-5": ("detectron2-pickle", lambda path: write_pickle(path, detectron2_order(), 5)),
    "bua-zip": ("bua-pth", lambda path: save(bua_state(), path, True)),
    "bua-zip-model": ("bua-pth", lambda path: save({"model": bua_state(), "iteration": 3}, path, True)),
    "bua-legacy": ("bua-pth", lambda path: save(bua_state(), path, False)),
    "huggingface-zip": ("huggingface-bin", lambda path: save(huggingface_state(), path, True)),
    "huggingface-legacy": ("huggingface-bin", lambda path: save(huggingface_state(), path, False)),
    "safetensors": ("safetensors", write_safetensors),
}
