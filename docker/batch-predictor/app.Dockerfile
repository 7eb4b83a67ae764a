# The image of a model for prediction jobs. Its context is a folder that `merlin image context`
# wrote, so nothing here needs credentials: the model is in the folder, and the network is asked for
# packages only. The order goes from what seldom changes to what always does.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS system
USER 0:0
COPY ["packages.txt", "/opt/merlin/packages.txt"]
RUN ["/bin/sh", "-ec", "test ! -s /opt/merlin/packages.txt || { apt-get update -qq; xargs --arg-file=/opt/merlin/packages.txt apt-get install -qq --yes --no-install-recommends; rm -rf /var/lib/apt/lists/*; }"]

# Dependencies are installed aside: what uv downloads and builds on the way stays out of the image.
FROM system AS environment
WORKDIR /opt/merlin/environment
COPY [".python-version", "requirements.txt", "constraints.txt", "uv.toml", "./"]
RUN ["uv", "venv", "/opt/venv"]
RUN --mount=type=cache,target=/root/.cache/uv ["uv", "pip", "install", "--python=/opt/venv/bin/python", "--compile-bytecode", "--requirements=requirements.txt", "--constraints=constraints.txt"]

FROM system
COPY --from=environment ["/opt/venv", "/opt/venv"]
WORKDIR /opt/merlin/runtime
COPY ["runtime.txt", "./"]
COPY ["wheels", "./wheels"]
RUN ["uv", "pip", "install", "--python=/opt/venv/bin/python", "--compile-bytecode", "--no-cache", "--no-index", "--no-deps", "--requirements=runtime.txt"]
COPY ["model", "/opt/model"]

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
