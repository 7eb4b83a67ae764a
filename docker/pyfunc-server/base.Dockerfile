# What images of models start from: Python and uv. Build it from the folder docker/:
#
#   docker build -f docker/pyfunc-server/base.Dockerfile -t merlin-pyfunc-server-base docker
#
# Any image with a Python that models want, and uv on its PATH, does as well.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}

USER 0:0
# packages.txt lists Debian packages, one a line; where it is empty, the image needs no apt.
COPY ["packages.txt", "uv.txt", "/opt/merlin/base/"]
RUN ["/bin/sh", "-ec", "test ! -s /opt/merlin/base/packages.txt || { apt-get update -qq; xargs --arg-file=/opt/merlin/base/packages.txt apt-get install -qq --yes --no-install-recommends; rm -rf /var/lib/apt/lists/*; }"]
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--only-binary=:all:", "--require-hashes", "--target=/opt/uv", "--requirement=/opt/merlin/base/uv.txt"]

ENV PATH="/opt/uv/bin:${PATH}" \
    UV_PYTHON_DOWNLOADS="never" \
    UV_LINK_MODE="copy" \
    UV_SYSTEM_CERTS="true"

USER 65532:65532
