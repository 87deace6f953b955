"""Write random weights of ResNet-101 size in the original's .caffemodel format (262 MB).

The numbers are seeded. One pass over a photograph sets the statistics of every batch normalisation, and scales the
scores to the spread of a trained network, so that activations neither vanish nor explode and proposals differ.

    python -m benchmarks.full_size_weights OUT.caffemodel
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from region_features.detector.architecture import RESNET_101, Architecture
from region_features.detector.network.config import network_config
from region_features.detector.network.meta_arch import BottomUpAttentionRCNN
from region_features.detector.preprocess import prepare
from region_features.detector.weights.caffemodel import NetParameter
from region_features.records.settings import SelectionRule

Layers = dict[str, tuple[str, list[NDArray[np.float32]]]]
BRANCH_GAIN = 0.3  # of a block's branch over its shortcut, about that of a trained network
FACTOR = 999.98236  # by which Caffe stores mean and variance
BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
# Standard deviations of a trained network's outputs: foreground logits, box deltas, class and attribute logits.
SPREADS = {
    "proposal_generator.rpn_head.objectness_logits": 3.0,
    "proposal_generator.rpn_head.anchor_deltas": 0.3,
    "roi_heads.box_predictor.cls_score": 2.5,
    "roi_heads.box_predictor.attr_score": 2.0,
}


def random_network(architecture: Architecture, seed: int) -> BottomUpAttentionRCNN:
    """Build a network with seeded Gaussians of He's size in its convolutions and matrices."""
    network = BottomUpAttentionRCNN(network_config(architecture, SelectionRule(), device="cpu"))
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            inputs = 1 if "embedding" in name else parameter[0].numel()
            nn.init.normal_(parameter, std=(2.0 / inputs) ** 0.5, generator=generator)
            if parameter.dim() == 4:
                # Rectified inputs are positive: filters of mean zero respond to their differences, not to their level.
                parameter.sub_(parameter.mean(dim=(1, 2, 3), keepdim=True))
        else:
            nn.init.zeros_(parameter)
    for name, buffer in network.named_buffers():
        if name.endswith("conv3.norm.weight"):
            buffer.fill_(BRANCH_GAIN)
    return network.eval()


def _normalise(module: Any, inputs: tuple[Tensor, ...]) -> None:
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance + 1e-3)


def _spread(target: float, module: Any, _inputs: object, output: Tensor) -> Tensor:
    dims = (0, 2, 3) if output.dim() == 4 else (0,)
    deviation, mean = torch.std_mean(output, dim=dims)
    gain = target / deviation.clamp_min(1e-6)
    module.weight.mul_(gain.reshape(-1, *[1] * (module.weight.dim() - 1)))
    module.bias.copy_(-mean * gain)
    shape = (1, -1, 1, 1) if output.dim() == 4 else (1, -1)
    return (output - mean.reshape(shape)) * gain.reshape(shape)


@torch.inference_mode()
def calibrate(network: BottomUpAttentionRCNN) -> None:
    """Pass one photograph through the network, setting each normalisation and the spread of each score."""
    network.roi_heads.chunk = 300
    hooks = [m.register_forward_pre_hook(_normalise) for m in network.modules() if hasattr(m, "running_var")]
    hooks += [network.get_submodule(name).register_forward_hook(partial(_spread, s)) for name, s in SPREADS.items()]
    photo = prepare("astronaut", np.ascontiguousarray(data.astronaut()[:, :, ::-1]))
    pixels = torch.from_numpy(photo.pixels).permute(2, 0, 1)
    network([{"image": pixels, "scale": photo.scale, "height": photo.height, "width": photo.width}])
    for hook in hooks:
        hook.remove()


def _convolution(layers: Layers, network: nn.Module, module: str, name: str, suffix: str) -> None:
    conv: Any = network.get_submodule(module)
    norm = conv.norm
    layers[name] = ("Convolution", [conv.weight.numpy()])
    stored = [(norm.running_mean * FACTOR).numpy(), (norm.running_var * FACTOR).numpy()]
    layers[f"bn{suffix}"] = ("BatchNorm", [*stored, np.array([FACTOR], dtype=np.float32)])
    layers[f"scale{suffix}"] = ("Scale", [norm.weight.numpy(), norm.bias.numpy()])


def caffe_layers(network: BottomUpAttentionRCNN, architecture: Architecture) -> Layers:
    """Return the network's weights under the original's layer names."""
    layers: Layers = {}
    _convolution(layers, network, "backbone.stem.conv1", "conv1", "_conv1")
    for number, stage in enumerate(architecture.stages, start=2):
        parent = "roi_heads" if number == 5 else "backbone"
        by_letter = stage.blocks <= 3  # a, b, c; or else a, b1, b2, ...
        for index in range(stage.blocks):
            block = f"{number}" + ("abc"[index] if by_letter else "a" if index == 0 else f"b{index}")
            for module, branch in BRANCHES.items():
                if module != "shortcut" or index == 0:
                    path = f"{parent}.res{number}.{index}.{module}"
                    _convolution(layers, network, path, f"res{block}_{branch}", f"{block}_{branch}")
    predictor, rpn = network.roi_heads.box_predictor, network.proposal_generator.rpn_head
    plain = {
        "rpn_conv/3x3": rpn.conv,
        "rpn_cls_score": rpn.objectness_logits,
        "rpn_bbox_pred": rpn.anchor_deltas,
        "cls_score": predictor.cls_score,
        "fc_attr": predictor.fc_attr,
        "attr_score": predictor.attr_score,
    }
    for name, module in plain.items():
        kind = "Convolution" if name.startswith("rpn") else "InnerProduct"
        layers[name] = (kind, [module.weight.numpy(), module.bias.numpy()])
    layers["cls_embedding"] = ("Embed", [predictor.cls_embedding.weight.numpy()])
    boxes = np.zeros((4 * (architecture.classes + 1), architecture.stages[3].channels), dtype=np.float32)
    layers["bbox_pred"] = ("InnerProduct", [boxes, np.zeros(len(boxes), dtype=np.float32)])
    return layers


def write_caffemodel(path: str | Path, layers: Mapping[str, tuple[str, Sequence[NDArray[np.float32]]]]) -> None:
    """Write layers as Caffe itself snapshots them.

    Args:
        path: local file, replaced.
        layers: layer name -> (Caffe layer type, blobs).
    """
    net = NetParameter(name=b"ResNet")
    for name, (kind, blobs) in layers.items():
        layer = net.layer.add(name=name.encode(), type=kind.encode())
        for blob in blobs:
            layer.blobs.add(shape={"dim": blob.shape}, data=[np.ascontiguousarray(blob, dtype="<f4").tobytes()])
    Path(path).write_bytes(net.SerializeToString())


def main() -> None:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="file to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network = random_network(RESNET_101, options.seed)
    calibrate(network)
    write_caffemodel(options.out, caffe_layers(network, RESNET_101))
    print(f"{options.out}: {Path(options.out).stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
