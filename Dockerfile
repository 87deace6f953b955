# The worker image for Dataflow (Runner v2) with or without GPUs:
#   docker build -t REGION-docker.pkg.dev/PROJECT/REPOSITORY/region-features .
# Then submit with --sdk_container_image=... and --sdk_location=container.
# No CUDA base image: torch's wheels carry CUDA 13, which needs NVIDIA driver 580 or later on the machine; Dataflow
# mounts its driver below /usr/local/nvidia. The submitting machine must run the same Python minor version and Beam.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM python:3.11-slim

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/region-features

# Beam's own start program, unchanged; it would otherwise make a new virtual environment at every start.
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The dependencies first, without the code: a change of code then builds only the last layer again.
COPY setup.py pyproject.toml constraints.txt ./
COPY tools/detectron2_wheel.py tools/
RUN pip install --no-cache-dir --constraint constraints.txt setuptools '.[formats,gcp,worker]' \
    && python tools/detectron2_wheel.py /tmp/wheels \
    && pip install --no-cache-dir --constraint constraints.txt /tmp/wheels/*.whl \
    && rm -rf /tmp/wheels \
    && pip check

COPY beam_pipeline beam_pipeline
COPY transforms transforms
COPY region_features region_features
RUN pip install --no-cache-dir --no-deps --force-reinstall . \
    && rm -rf build ./*.egg-info \
    && python -c 'import apache_beam, beam_pipeline, detectron2.modeling, torchvision, region_features.detector'

ENTRYPOINT ["/opt/apache/beam/boot"]
