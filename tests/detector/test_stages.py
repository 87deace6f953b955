"""Every blob of the original's forward pass that this network also has; parts of the network against plain forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_pool

from region_features.detector.network.detector import build_network
from region_features.detector.network.fused import fold_batch_norm, fuse_cpu_blocks
from region_features.detector.network.meta_arch import BottomUpAttentionRCNN
from region_features.detector.network.proposals import foreground
from region_features.detector.network.region_pool import max_tables, pool_chunk, pool_indices
from region_features.detector.torch_private import has_fused_convolutions
from region_features.detector.weights.caffe_weights import read_caffe_weights
from region_features.records.settings import SelectionRule
from tests.conftest import NO_ONEDNN, TINY_WEIGHTS, recording
from tests.detector.conftest import BOX_TOLERANCE, TOLERANCE, golden, image_file, read
from tests.detector.make_goldens import IMAGES, PHOTOS

BLOCKS = {"res2": ["2a"], "res3": ["3a"], "res4": ["4a", "4b1"], "res5": ["5a", "5b"]}


@pytest.fixture
def network() -> BottomUpAttentionRCNN:
    return build_network(read_caffe_weights(TINY_WEIGHTS), SelectionRule())


def watch(network: BottomUpAttentionRCNN, blobs: dict[str, Tensor]) -> None:
    """Keep each module's output under the original's blob name; in Caffe most ReLUs write over their input."""

    def keep(module: nn.Module, name: str, activation: Callable[[Tensor], Tensor]) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            blobs[name] = activation(output).clone()

        module.register_forward_hook(hook)

    keep(network.backbone.stem.conv1, "conv1", F.relu)
    keep(network.backbone.stem, "pool1", torch.clone)
    for stage, names in BLOCKS.items():
        blocks: Any = network.get_submodule(f"roi_heads.{stage}" if stage == "res5" else f"backbone.{stage}")
        for block, name in zip(blocks, names, strict=True):
            keep(block, f"res{name}", torch.clone)
            for conv, branch, activation in (
                ("conv1", "branch2a", F.relu),
                ("conv2", "branch2b", F.relu),
                ("conv3", "branch2c", torch.clone),
                ("shortcut", "branch1", torch.clone),
            ):
                if getattr(block, conv) is not None:
                    keep(getattr(block, conv), f"res{name}_{branch}", activation)
    rpn, predictor = network.proposal_generator.rpn_head, network.roi_heads.box_predictor
    keep(rpn.conv, "rpn__output", F.relu)
    keep(rpn.objectness_logits, "rpn_cls_score", torch.clone)
    keep(rpn.anchor_deltas, "rpn_bbox_pred", torch.clone)
    keep(predictor.cls_score, "cls_score", torch.clone)
    keep(predictor.cls_embedding, "cls_embedding", torch.clone)
    keep(predictor.fc_attr, "fc_attr", F.relu)
    keep(predictor.attr_score, "attr_score", torch.clone)


@pytest.mark.parametrize("folded", [False, True])
@torch.inference_mode()
def test_every_blob_of_a_photo_has_the_originals_shape_and_statistics(
    network: BottomUpAttentionRCNN, folded: bool
) -> None:
    image = read(image_file("000456"))
    if folded:
        fold_batch_norm(network)
    network.roi_heads.chunk = 300
    blobs: dict[str, Tensor] = {"data": torch.from_numpy(image.pixels).permute(2, 0, 1)[None]}
    watch(network, blobs)

    feature = network.backbone(blobs["data"])["res4"]
    size = image.pixels.shape[:2]
    rois = network.proposal_generator(feature, (size[0], size[1]), image.scale)
    blobs["rois"] = torch.cat([torch.zeros(len(rois), 1), rois], dim=1)
    tables = max_tables(feature)
    blobs["roipool5"] = pool_chunk(tables, pool_indices(tables, rois))
    blobs["pool5_flat"] = network.roi_heads(feature, rois)
    predictor = network.roi_heads.box_predictor
    blobs["cls_prob"] = predictor.class_probabilities(blobs["pool5_flat"])
    best = blobs["cls_prob"].argmax(dim=1)
    blobs["predicted_cls"] = best[:, None].float()
    blobs["attr_prob"] = predictor.attribute_probabilities(blobs["pool5_flat"], best)

    with np.load(recording("tiny_000456_stages.npz")) as arrays:
        assert len(blobs) == 44
        for name, blob in blobs.items():
            assert list(blob.shape) == arrays[f"shape__{name}"].tolist(), name
            values = blob.double()
            total, mean, largest = arrays[f"stat__{name}"]
            size_of_sum = values.abs().sum().item()  # a sum of both signs cancels; its terms do not
            assert abs(values.sum().item() - total) <= 1e-4 * max(abs(total), 0.1 * size_of_sum), name
            assert abs(values.mean().item() - mean) <= 1e-4 * max(abs(mean), 0.1 * values.abs().mean().item()), name
            assert values.abs().max().item() == pytest.approx(largest, rel=1e-4), name


@pytest.mark.parametrize("name", [*(Path(image).stem for image in IMAGES), *PHOTOS])
@torch.inference_mode()
def test_proposals_and_their_features_are_the_originals(network: BottomUpAttentionRCNN, name: str) -> None:
    original = golden(name)
    pixels, arrays = torch.from_numpy(original.image.pixels), original.arrays
    feature = network.backbone(pixels.permute(2, 0, 1)[None])["res4"]
    proposals = network.proposal_generator(feature, (pixels.shape[0], pixels.shape[1]), original.image.scale)

    rois = torch.from_numpy(arrays["rois"][:, 1:])  # (R, 4), pixels of the resized image
    distance, places = (rois[:, None] - proposals[None]).abs().amax(dim=2).min(dim=1)
    assert proposals.shape == rois.shape and distance.max() < BOX_TOLERANCE
    # Neighbours whose scores are equal but for rounding may change places.
    assert (places - torch.arange(len(rois))).abs().max() <= 2

    features = network.roi_heads(feature, rois[arrays["keep_boxes"]])
    np.testing.assert_allclose(features, arrays["features"], rtol=0, atol=TOLERANCE)


def test_foreground_is_the_second_dozen_of_a_pairwise_softmax() -> None:
    logits = torch.randn(1, 24, 2, 3, generator=torch.Generator().manual_seed(0))
    scores = foreground(logits).reshape(2, 3, 12)
    for y, x, anchor in ((0, 0, 0), (1, 2, 11), (0, 2, 5)):
        background, object_ = logits[0, anchor, y, x].exp(), logits[0, 12 + anchor, y, x].exp()
        assert scores[y, x, anchor].item() == pytest.approx((object_ / (object_ + background)).item(), rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(38, 57), (1, 63), (63, 2), (38, 38)])
def test_region_pool_equals_torchvision_bit_for_bit(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    feature = torch.from_numpy(rng.standard_normal((1, 5, height, width), dtype=np.float32))
    low = rng.uniform(0, 1, (200, 2)) * (width * 16 + 8, height * 16 + 8)
    high = low + rng.uniform(0, 1, (200, 2)) ** 2 * (width * 16, height * 16)
    regions = np.concatenate([low, high], axis=1).astype(np.float32)
    regions[::3] = np.round(regions[::3] / 8) * 8  # halves, where rounding decides
    rois = torch.cat([torch.zeros(200, 1), torch.from_numpy(regions)], dim=1)
    tables = max_tables(feature)
    ours = pool_chunk(tables, pool_indices(tables, torch.from_numpy(regions)))
    assert torch.equal(ours, roi_pool(feature, rois, 14, 1 / 16))


@pytest.mark.skipif(not has_fused_convolutions(), reason=NO_ONEDNN)
@pytest.mark.parametrize("inputs", [(6, 14, 14), None])
@torch.inference_mode()
def test_fused_blocks_equal_plain_ones(network: BottomUpAttentionRCNN, inputs: tuple[int, int, int] | None) -> None:
    if not has_fused_convolutions():
        pytest.skip("this torch has no fused convolutions")
    fold_batch_norm(network)
    stage = network.roi_heads.res5
    x = torch.randn(6, 64, 14, 14, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    before, wanted = x.clone(), stage(x)
    fuse_cpu_blocks(stage, inputs)
    torch.testing.assert_close(stage(x), wanted, rtol=0, atol=1e-5)
    assert torch.equal(x, before)
