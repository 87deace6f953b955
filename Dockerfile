# One image for Dataflow's workers (Runner v2), with or without GPUs, for the launcher of the Flex Template, and for
# clusters that run `python -m beam_pipeline` themselves:
#   docker build -t REGION-docker.pkg.dev/PROJECT/REPOSITORY/region-features .
# The submitting machine must run the same Python minor version and Beam.
#
# CUDA: `install-nvidia-driver:5xx` gives a driver of some branch from 525 on, and Google does not say which. Wheels with
# CUDA 13 need 580 or later; those with CUDA 12 run on every driver from 525.60 on (CUDA's minor version compatibility).
# So the image takes the newest torch with CUDA 12 (deploy/cuda12.txt, in deploy/image.lock with its hashes). No CUDA base
# image: the wheels carry all but the driver, which Dataflow mounts below /usr/local/nvidia.
ARG LAUNCHER=gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00
FROM apache/beam_python3.11_sdk:2.77.0 AS beam
# hadolint ignore=DL3006
FROM ${LAUNCHER} AS launcher

FROM python:3.11-slim

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/region-features

# Beam's own start program, unchanged; it would otherwise make a new virtual environment at every start.
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The dependencies first, without the code: a change of code then builds only the last layers again. At the end of the
# layer goes what inference does not load: triton, a compiler of kernels, and torch's headers.
COPY deploy/image.lock tools/detectron2_wheel.py ./
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement image.lock \
    && python detectron2_wheel.py /tmp/wheels \
    && pip install --no-cache-dir --no-deps /tmp/wheels/*.whl \
    && pip check \
    && pip uninstall --yes triton \
    && packages="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -rf "$packages"/torch/include "$packages"/nvidia/*/include /tmp/wheels

COPY setup.py pyproject.toml ./
COPY beam_pipeline beam_pipeline
COPY transforms transforms
COPY region_features region_features
COPY deploy/template/main.py /template/main.py
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && rm -rf build ./*.egg-info \
    && python -c 'import apache_beam, beam_pipeline, detectron2.modeling, torchvision, region_features.detector' \
    && useradd --uid 65532 --create-home worker \
    && install --directory --owner=worker /var/opt/google

# Nothing in the image needs root. If a service that starts it does: --build-arg USER=root.
ARG USER=65532
USER ${USER}
WORKDIR /home/worker

ENTRYPOINT ["/opt/apache/beam/boot"]
