# The suite in one image: its command on CPUs or GPUs, and the MLflow server. `make image` builds it.
#
#   docker build -t dae_ssl .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/store:/store" dae_ssl run method=dae
#
# PyTorch's wheels bring CUDA, cuDNN and NCCL in the versions that REQUIREMENTS pins, so the base needs none of them.
# CUDA 12 for drivers older than 580: --build-arg REQUIREMENTS=requirements-cuda12.lock
# Behind a proxy or a mirror: --secret id=pip.conf,src=... --secret id=ca.crt,src=... --secret id=environment,src=...
ARG BASE_IMAGE=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS packages
ARG REQUIREMENTS=requirements.lock
COPY container/install.sh ${REQUIREMENTS} /tmp/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt --mount=type=secret,id=environment \
    sh /tmp/install.sh packages "/tmp/${REQUIREMENTS}"

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
COPY container/install.sh /opt/dae_ssl/container/install.sh
RUN --mount=type=secret,id=ca.crt --mount=type=secret,id=environment \
    sh /opt/dae_ssl/container/install.sh compiler
COPY --from=packages /opt/venv /opt/venv
ARG REQUIREMENTS=requirements.lock
COPY ${REQUIREMENTS} /opt/dae_ssl/requirements.lock
COPY pyproject.toml README.md LICENSE /opt/dae_ssl/
COPY dae_ssl /opt/dae_ssl/dae_ssl
COPY jobs /opt/dae_ssl/jobs
COPY hydra_plugins /opt/dae_ssl/hydra_plugins
COPY slurm /opt/dae_ssl/slurm
RUN sh /opt/dae_ssl/container/install.sh project

# What must be known at build time only, so that it comes last.
ARG BASE_IMAGE
ARG VERSION
ARG COMMIT
# Folders to mount on: a new volume takes their owner.
RUN sh /opt/dae_ssl/container/install.sh commit "${COMMIT}" && \
    install -d -o 10001 -g 0 -m 775 /store /mlflow
LABEL org.opencontainers.image.title="dae_ssl" \
      org.opencontainers.image.description="Siamese denoising autoencoders for self-supervised learning, as a batch suite" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
# Any user may run it, also one without an entry in /etc/passwd: a home that all can write, a name for those who ask.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    LOGNAME=dae_ssl \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    DAE_SSL_STORE=/store \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /opt/dae_ssl
USER 10001:0
ENTRYPOINT ["dae-ssl"]
CMD ["--help"]
