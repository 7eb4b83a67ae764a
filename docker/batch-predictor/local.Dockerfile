# The image of a model in a local folder, with no blob store and no tool of Merlin's on this machine:
# the context is the model folder itself, and our tools' image writes what app.Dockerfile starts from.
#
#   docker build -f docker/batch-predictor/local.Dockerfile --build-arg TOOLS_IMAGE=merlin-tools \
#       --build-arg BASE_IMAGE=merlin-batch-predictor-base -t my-model ./model
ARG TOOLS_IMAGE
ARG BASE_IMAGE
FROM ${TOOLS_IMAGE} AS context
ARG PYTHON_VERSION=3.11
ARG MODEL_TYPE=pyfunc_v2
COPY [".", "/tmp/model"]
RUN ["/bin/sh", "-ec", "merlin image context --model-url=/tmp/model --kind=batch --python=\"${PYTHON_VERSION}\" --model-type=\"${MODEL_TYPE}\" --to=/tmp/context"]

FROM ${BASE_IMAGE} AS system
USER 0:0
COPY --from=context ["/tmp/context/packages.txt", "/opt/merlin/packages.txt"]
RUN ["/bin/sh", "-ec", "test ! -s /opt/merlin/packages.txt || { apt-get update -qq; xargs --arg-file=/opt/merlin/packages.txt apt-get install -qq --yes --no-install-recommends; rm -rf /var/lib/apt/lists/*; }"]

# Dependencies are installed aside: what uv downloads and builds on the way stays out of the image.
FROM system AS environment
WORKDIR /opt/merlin/environment
COPY --from=context ["/tmp/context/.python-version", "/tmp/context/requirements.txt", "/tmp/context/constraints.txt", "/tmp/context/uv.toml", "./"]
RUN ["uv", "venv", "/opt/venv"]
RUN --mount=type=cache,target=/root/.cache/uv ["uv", "pip", "install", "--python=/opt/venv/bin/python", "--compile-bytecode", "--requirements=requirements.txt", "--constraints=constraints.txt"]

FROM system
COPY --from=environment ["/opt/venv", "/opt/venv"]
WORKDIR /opt/merlin/runtime
COPY --from=context ["/tmp/context/runtime.txt", "./"]
COPY --from=context ["/tmp/context/wheels", "./wheels"]
RUN ["uv", "pip", "install", "--python=/opt/venv/bin/python", "--compile-bytecode", "--no-cache", "--no-index", "--no-deps", "--requirements=runtime.txt"]
COPY --from=context ["/tmp/context/model", "/opt/model"]

# Spark starts the model's own Python, in the driver and in executors.
ENV PATH="/opt/venv/bin:${PATH}" \
    VIRTUAL_ENV="/opt/venv" \
    PYSPARK_PYTHON="/opt/venv/bin/python" \
    PYSPARK_DRIVER_PYTHON="/opt/venv/bin/python" \
    HOME="/tmp"
WORKDIR /opt/model
USER 185:0
RUN ["/opt/venv/bin/python", "-m", "merlin_runtime", "serve", "--model-dir", "/opt/model", "--dry-run", "--batch"]

ARG MODEL_NAME=model
ARG MODEL_VERSION=1
ARG MODEL_TYPE=pyfunc_v2
ARG MODEL_ARTIFACTS_URL=""
ARG MODEL_DEPENDENCIES_URL=""
LABEL io.merlin-serving.model.name="${MODEL_NAME}" \
      io.merlin-serving.model.type="${MODEL_TYPE}" \
      io.merlin-serving.model.artifacts="${MODEL_ARTIFACTS_URL}" \
      io.merlin-serving.model.dependencies="${MODEL_DEPENDENCIES_URL}" \
      org.opencontainers.image.version="${MODEL_VERSION}"
