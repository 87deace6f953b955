"""Packaging: a light core to submit jobs with, and the extras `worker` (runs them) and `dev` (tests them)."""

from setuptools import find_namespace_packages, setup

CORE = [
    "apache-beam[gcp]>=2.77",
    "filelock",
    "google-cloud-storage",
    "google-crc32c",
    "lmdb>=1.7",
    "numpy>=2",
    "protobuf",
    "pybase64",
    "pyyaml",
    "safetensors>=0.4",
]
# detectron2 is missing here on purpose: it is not on the package index under its name. tools/detectron2_wheel.py makes
# a pure-Python wheel of it, whose metadata brings what it imports; an official build serves in its place.
WORKER = [
    "opencv-python-headless>=4.10",
    "pillow>=10",
    "torch>=2.4",
    "torchvision>=0.19",
]
# The workers write tf.train.Example without tensorflow, which would cost each of them 5 s and 0.6 GB; the tests read
# it back with the real one.
DEV = [
    "gcp-storage-emulator",
    "mypy",
    "pytest",
    "pytest-timeout",
    "ruff",
    "scikit-image",
    "scikit-learn",
    "tensorflow-cpu>=2.18; sys_platform == 'linux'",
    "tensorflow>=2.18; sys_platform != 'linux'",
    "types-protobuf",
]

setup(
    name="region-features-beam",
    version="0.1.0",
    description="Apache Beam pipeline: bottom-up-attention region features to TFRecord, LMDB and caption files",
    license="Apache-2.0",
    packages=find_namespace_packages(include=["region_features*", "transforms*", "beam_pipeline*"]),
    python_requires=">=3.11",
    install_requires=CORE,
    extras_require={"worker": WORKER, "dev": DEV},
)
