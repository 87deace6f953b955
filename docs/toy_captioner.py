"""Train a toy captioner head for a few steps on a run's output, with either reader.

    python docs/toy_captioner.py out/tfrecord
    python docs/toy_captioner.py out/tfrecord --reader tf.data
    python docs/toy_captioner.py out/resnet101_faster_rcnn_genome_imgfeats/volta/trainval_feat.lmdb \
        --annotations out/annotations/train_ann.jsonl

The head sees the mean of an image's region features and predicts its first sentence word by word. The example shows
how to use the readers; the trained head is of no use.
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
    """Items with captions: those in the shards, or for an LMDB those in a caption file, whose ids are its keys."""

    def __init__(self, path: str, annotations: str | None) -> None:
        self.features = RegionFeatures(path)
        self.sentences: dict[str, list[str]] = {}
        self.indices: Sequence[int | str] = range(len(self.features))
        if annotations:
            with open(annotations, encoding="utf-8") as lines:
                self.sentences = {str(row["id"]): row["sentences"] for row in map(json.loads, lines)}
            # The LMDB also has images of other splits, and images without captions.
            self.indices = [key for key in self.features.keys if key in self.sentences]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> dict[str, Any]:
        index = self.indices[number]
        item = self.features[index]
        captions = self.sentences[index] if isinstance(index, str) else item["captions"]
        return {"features": item["features"], "captions": captions}


def collate(items: Iterable[dict[str, Any]]) -> Batch:
    """Return the mean features and first sentences of the images that have both."""
    usable = [item for item in items if len(item["captions"]) and len(item["features"])]
    means = np.array([item["features"].mean(axis=0) for item in usable], np.float32)
    return torch.from_numpy(means), [item["captions"][0] for item in usable]


def torch_batches(path: str, annotations: str | None, workers: int, batch_size: int) -> Iterator[Batch]:
    """Yield batches of RegionFeatures from torch's DataLoader, without end."""
    # Any: DataLoader accepts every object with a length and items, though its annotation asks for a Dataset.
    dataset: Any = CaptionedFeatures(path, annotations)
    loader: DataLoader[Batch] = DataLoader(
        dataset, batch_size, shuffle=True, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def tensorflow_batches(path: str, batch_size: int) -> Iterator[Batch]:
    """Yield batches of the shards from tf.data, without end."""
    import tensorflow as tf

    shards = sorted(glob.glob(os.path.join(path, "*.tfrecord")))
    data = tf.data.TFRecordDataset(shards).map(parse_example).repeat().shuffle(8 * batch_size)
    items = data.as_numpy_iterator()
    while True:
        batch = islice(items, batch_size)
        yield collate({**item, "captions": [text.decode() for text in item["captions"]]} for item in batch)


class CaptionerHead(nn.Module):
    """A GRU whose initial state is the mean feature, and which predicts the next word."""

    def __init__(self, width: int, words: int, hidden: int = 64) -> None:
        super().__init__()
        self.begin = nn.Linear(width, hidden)
        self.embed = nn.Embedding(words, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.end = nn.Linear(hidden, words)

    def forward(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Return the mean loss, given features (B, D) and words int64 (B, T), padded with START."""
        inputs = F.pad(words[:, :-1], (1, 0), value=START)
        states, _ = self.gru(self.embed(inputs), self.begin(features)[None])
        return F.cross_entropy(self.end(states).flatten(0, 1), words.flatten(), ignore_index=START)


def to_words(sentences: Sequence[str], buckets: int) -> torch.Tensor:
    """Hash words to numbers, int64 (B, T), padded with START."""
    # Instead of a vocabulary; unlike hash(), the same in every process.
    rows = [
        [UNKNOWN + 1 + sum(word.encode()) % (buckets - 2) for word in sentence.lower().split()] or [UNKNOWN]
        for sentence in sentences
    ]
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=START)


def train(batches: Iterator[Batch], steps: int, words: int = 512) -> list[float]:
    """Train and return the loss of each step."""
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
    """Parse the command line, train, and return the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="folder of shards, or an LMDB folder")
    parser.add_argument("--annotations", help="caption file; an LMDB needs one")
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
