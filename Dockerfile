# The environment for a machine with an NVIDIA GPU; see docs/gpu.md. torch brings its own CUDA: the host needs a driver
# and the NVIDIA container toolkit, the image no more than Python.
FROM python:3.12-slim

WORKDIR /opt/setn_lab
COPY pyproject.toml README.md LICENSE ./
COPY setn_lab setn_lab
COPY notebooks notebooks
# What is installed is this folder, whose pyproject.toml says the versions; pygraphviz's wheels carry Graphviz.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[notebooks,cluster]'

# Run folders and decoded images outlive the container where these are volumes.
ENV SETN_LAB_RUNS=/runs SETN_LAB_CACHE=/cache PYTHONUNBUFFERED=1
VOLUME ["/runs", "/cache"]

ENTRYPOINT ["setn-lab"]
CMD ["--help"]
