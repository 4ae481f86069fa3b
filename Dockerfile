# The workers' image. Build it in this directory, on the base image that images.lock names by its digest:
#
#     docker build --build-arg "$(grep ^BASE_IMAGE= images.lock)" -t parcel-extraction:0.1.0 .
#
# The package is installed in it. A directory that is mounted on /usr/src/app comes first: it needs only the two
# configuration files, and code in it (extractors/, operations/) is used instead of the installed one.
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
# Wheels only, and only those whose hashes are in the lock files: nothing is compiled, nothing else gets in.
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.lock \
    && python3 -m venv /opt/extraction \
    && /opt/extraction/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE download_with_boto3.py ./
COPY extractors extractors
COPY operations operations
# Tests of libraries are of no use here; pip itself would only be something to keep up to date.
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/extraction/bin/pip install --no-cache-dir --no-deps dist/*.whl \
    && find /opt/extraction/lib -type d -name tests -prune -exec rm -r {} + \
    && /opt/extraction/bin/pip uninstall --yes pip

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 extraction \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /scratch --shell /usr/sbin/nologin extraction \
    && mkdir -p /usr/src/app \
    # Whoever the container runs as (docker run --user), scenes are kept here while they are worked on.
    && mkdir -m 1777 /scratch \
    # No program that makes its user somebody else: nobody here needs one.
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
COPY --from=build /opt/extraction /opt/extraction
ENV PATH=/opt/extraction/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    # No files of ours in the mounted directory.
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/scratch \
    # Every container has a /dev/shm of its own that can be written to, a read-only one as well.
    HEALTH_FILE=/dev/shm/worker_health
WORKDIR /usr/src/app
VOLUME /scratch
USER 10001:10001
# Unhealthy: the worker said by when it would report again, and has not. A swarm calls a container running only after the
# first check, so that must not be long in coming; one costs 30 ms.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=6 CMD ["python", "-m", "extractors.health"]
CMD ["python", "-m", "extractors.s2"]
