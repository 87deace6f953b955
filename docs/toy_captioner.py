"""Trains a toy captioner head for a few steps, on a run's output, from each of the readers.

    python docs/toy_captioner.py out/tfrecord
    python docs/toy_captioner.py out/tfrecord --reader tf.data
    python docs/toy_captioner.py out/resnet101_faster_rcnn_genome_imgfeats/volta/trainval_feat.lmdb \
        --annotations out/annotations/train_ann.jsonl

The head sees the mean of an image's region features and predicts its first sentence word by word. It shows how the
readers are used; it learns nothing worth keeping.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from region_features import RegionFeatures, parse_example

START, UNKNOWN = 0, 1
Batch = tuple[torch.Tensor, list[str]]  # (B, D) mean features, B sentences


class CaptionedFeatures:
    """Shards carry their captions; an LMDB's come from a caption file, under the coco id that is its key."""

    def __init__(self, path: str, annotations: str | None) -> None:
        self.features = RegionFeatures(path)
        self.sentences: dict[str, str] = {}
        if annotations:
            with open(annotations, encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
            self.sentences = {str(row["id"]): row["sentences"][0] for row in rows if row["sentences"]}
        # Images of other splits are in the LMDB too, and some images have no captions at all.
        self.keys = [key for key in self.features.keys if key in self.sentences] if annotations else None

    def __len__(self) -> int:
        return len(self.features if self.keys is None else self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.features[index] if self.keys is None else self.features[self.keys[index]]
        captions = item.get("captions") if self.keys is None else [self.sentences[self.keys[index]]]
        return {"features": item["features"], "captions": captions or []}


def collate(items: Iterable[dict[str, Any]]) -> Batch:
    """Means and first sentences of the images that have one."""
    chosen = [item for item in items if len(item["captions"]) and len(item["features"])]
    means = np.array([item["features"].mean(axis=0) for item in chosen], np.float32)
    return torch.from_numpy(means), [item["captions"][0] for item in chosen]


def torch_batches(path: str, annotations: str | None, workers: int, batch_size: int) -> Iterator[Batch]:
    """Batches of RegionFeatures through torch's DataLoader, over and over."""
    data = CaptionedFeatures(path, annotations)
    # DataLoader takes any object with a length and items, though its annotation asks for a Dataset.
    dataset: Any = data
    loader: DataLoader[Batch] = DataLoader(
        dataset, batch_size, shuffle=True, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def tensorflow_batches(path: str, batch_size: int) -> Iterator[Batch]:
    """Batches of the shards through tf.data, over and over."""
    import tensorflow as tf

    shards = sorted(glob.glob(os.path.join(path, "*.tfrecord")))
    data = tf.data.TFRecordDataset(shards).map(parse_example).repeat().shuffle(8 * batch_size)
    items = data.as_numpy_iterator()
    while True:
        taken = list(islice(items, batch_size))
        yield collate({**item, "captions": [text.decode() for text in item["captions"]]} for item in taken)


class CaptionerHead(nn.Module):
    """A GRU that begins with the mean feature and predicts the next word."""

    def __init__(self, width: int, words: int, hidden: int = 64) -> None:
        super().__init__()
        self.begin = nn.Linear(width, hidden)
        self.embed = nn.Embedding(words, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.end = nn.Linear(hidden, words)

    def forward(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Mean loss of features (B, D) and words int64 (B, T), padded with START."""
        inputs = F.pad(words[:, :-1], (1, 0), value=START)
        states, _ = self.gru(self.embed(inputs), self.begin(features)[None])
        return F.cross_entropy(self.end(states).flatten(0, 1), words.flatten(), ignore_index=START)


def to_words(sentences: Sequence[str], buckets: int) -> torch.Tensor:
    """Hashed word numbers, int64 (B, T), padded with START."""
    # A hash that is the same in every process takes the place of a vocabulary.
    rows = [
        [UNKNOWN + 1 + sum(word.encode()) % (buckets - 2) for word in sentence.lower().split()] or [UNKNOWN]
        for sentence in sentences
    ]
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=START)


def train(batches: Iterator[Batch], steps: int, words: int = 512) -> list[float]:
    """The loss of each step."""
    torch.manual_seed(0)
    losses: list[float] = []
    head: CaptionerHead | None = None
    for features, sentences in (batch for batch in batches if batch[1]):
        if head is None:
            head = CaptionerHead(features.shape[1], words)
            optimizer = torch.optim.Adam(head.parameters(), 1e-2)
        loss = head(F.normalize(features), to_words(sentences, words))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        print(f"step {len(losses)}: loss {losses[-1]:.3f}, {len(sentences)} images")
        if len(losses) == steps:
            break
    return losses


def main(argv: Sequence[str]) -> list[float]:
    """Read the command line and train; gives the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="folder of shards, or an LMDB folder")
    parser.add_argument("--annotations", help="caption file, for an LMDB")
    parser.add_argument("--reader", choices=("torch", "tf.data"), default="torch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    if args.reader == "tf.data":
        return train(tensorflow_batches(args.path, args.batch_size), args.steps)
    return train(torch_batches(args.path, args.annotations, args.workers, args.batch_size), args.steps)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"toy_captioner: {error}")
