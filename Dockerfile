# Three images from one file:
#   docker build --target api .      the HTTP front end, without torch
#   docker build --target worker .   the process that owns a device
#   docker build .                   all of it in one container: `glide serve` with its own Redis
#
# What changes rarely comes first: torch, then the other dependencies, then the project itself.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS python
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

FROM python AS dependencies-api
COPY docker/requirements-api.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    pip install --no-deps -r /build/requirements-api.txt

FROM python AS dependencies-worker
# Where torch alone is installed from. Empty: from pip's usual index, whose Linux wheels serve NVIDIA
# GPUs and CPUs and weigh gigabytes. pytorch.org names an index of small CPU-only wheels.
ARG TORCH_INDEX_URL=
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch==2.13.0
COPY docker/requirements-worker.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    pip install --no-deps -r /build/requirements-worker.txt

# The project goes beside its dependencies, so that a change of code leaves their layer alone.
FROM dependencies-api AS project
WORKDIR /build
COPY LICENSE NOTICE README.md pyproject.toml ./
COPY model ./model
COPY service ./service
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    pip install --no-deps --target /app . \
    && PYTHONPATH=/app pip check

FROM project AS project-api
RUN find /app -name '*.safetensors' -delete

FROM python AS embedded
COPY docker/requirements-serve.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    pip install --no-deps --target /embedded -r /build/requirements-serve.txt

FROM python:${PYTHON_VERSION}-slim AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="glide-service" \
      org.opencontainers.image.description="Text-guided diffusion sampling as a durable service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 glide \
    && useradd --uid 10001 --gid glide --home-dir /tmp --no-create-home --shell /usr/sbin/nologin glide \
    && install -d -o glide -g glide /data /data/images
ENV PATH=/app/bin:/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    GLIDE_DATA=/data/queue \
    GLIDE_STORE__PATH=/data/images \
    GLIDE_LOG__FORMAT=json
WORKDIR /data
USER 10001:10001

FROM runtime AS api
COPY --from=dependencies-api /opt/venv /opt/venv
COPY --from=project-api /app /app
ENV GLIDE_API__HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('GLIDE_API__PORT', '8000') + '/healthz', timeout=4)"]
CMD ["glide", "api"]

FROM runtime AS worker
# Read by the NVIDIA container runtime where there is one, ignored elsewhere.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies-worker /opt/venv /opt/venv
COPY --from=project /app /app
CMD ["glide", "worker"]

FROM worker AS serve
COPY --from=embedded /embedded /app
ENV GLIDE_API__HOST=0.0.0.0
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["glide", "serve", "--port", "8000"]
