# s3router serve in a container: docs/install.md#in-a-container
#
#   docker build -t s3router .                                     for CPUs
#   docker build -t s3router:cuda --build-arg DEVICE=cu130 .       with CUDA's libraries, for --gpus all
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# which of PyTorch's builds: cpu, cu130 …
ARG DEVICE=cpu
ARG EXTRAS=serve
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/s3router/bin:${PATH}
WORKDIR /src
RUN python -m venv /opt/s3router
# torch is by far the largest layer, and changes least
COPY tools/constraints.txt tools/
RUN grep -E '^(torch|torchaudio)==' tools/constraints.txt > torch.txt \
    && pip install --index-url "https://download.pytorch.org/whl/${DEVICE}" -r torch.txt \
    && if [ "${DEVICE}" = cpu ]; then python -c 'import torch; assert torch.version.cuda is None, torch.__version__'; fi
COPY pyproject.toml setup.py README.md LICENSE ./
COPY conf conf
COPY s3router s3router
RUN pip install -c tools/constraints.txt ".[${EXTRAS}]" && pip uninstall -y pip

FROM python:${PYTHON}-slim-bookworm
LABEL org.opencontainers.image.title=s3router org.opencontainers.image.licenses=Apache-2.0
RUN useradd --uid 10001 --create-home s3router && install -d -o s3router -g s3router /packs /upstreams
COPY --from=build /opt/s3router /opt/s3router
ENV PATH=/opt/s3router/bin:${PATH} S3ROUTER_UPSTREAMS=/upstreams PYTHONUNBUFFERED=1
USER 10001
WORKDIR /packs
VOLUME ["/packs", "/upstreams"]
EXPOSE 8000
# the first start may fetch the backbone
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["s3router"]
CMD ["serve", "--routes", "/packs", "--host", "0.0.0.0", "--port", "8000"]
