# What images of prediction jobs start from: Python, uv, Java, Spark and its connectors to S3,
# Google Cloud Storage and BigQuery. Build it from the folder docker/:
#
#   python docker/batch-predictor/fetch_jars.py --pin docker/batch-predictor/jars.txt
#   docker build -f docker/batch-predictor/base.Dockerfile -t merlin-batch-predictor-base docker
#
# The first line downloads the connectors once and writes their checksums down; read them against
# a source you trust, and keep the file. Without checksums nothing is built.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG SPARK_IMAGE=docker.io/apache/spark:3.5.5-scala2.12-java17-ubuntu
FROM ${SPARK_IMAGE} AS spark

FROM ${PYTHON_IMAGE}
USER 0:0
COPY ["batch-predictor/packages.txt", "uv.txt", "/opt/merlin/base/"]
RUN ["/bin/sh", "-ec", "test ! -s /opt/merlin/base/packages.txt || { apt-get update -qq; xargs --arg-file=/opt/merlin/base/packages.txt apt-get install -qq --yes --no-install-recommends; rm -rf /var/lib/apt/lists/*; }"]
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--only-binary=:all:", "--require-hashes", "--target=/opt/uv", "--requirement=/opt/merlin/base/uv.txt"]

COPY --from=spark ["/opt/spark", "/opt/spark"]
COPY --from=spark ["/opt/entrypoint.sh", "/opt/entrypoint.sh"]
COPY ["batch-predictor/fetch_jars.py", "batch-predictor/jars.txt", "/opt/merlin/base/"]
RUN ["python3", "/opt/merlin/base/fetch_jars.py", "--to=/opt/spark/jars", "/opt/merlin/base/jars.txt"]

ENV PATH="/opt/uv/bin:/opt/spark/bin:${PATH}" \
    SPARK_HOME="/opt/spark" \
    UV_PYTHON_DOWNLOADS="never" \
    UV_LINK_MODE="copy" \
    UV_SYSTEM_CERTS="true"

USER 185:0
ENTRYPOINT ["/opt/entrypoint.sh"]
