# One image for every process of the stack. Each Deployment sets its own command.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
# renovate: datasource=pypi depName=uv
ARG UV_VERSION=0.13.9
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}"
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
# Dependencies come first, so that a change of code does not rebuild their layer.
WORKDIR /build
COPY pyproject.toml uv.lock deploy/slim.py ./
COPY pressroom/pyproject.toml pressroom/
# `reload` adds watchfiles, which restarts processes when their code changes, for the Tiltfile.
ARG GROUP=""
RUN /opt/uv/bin/uv sync --frozen --no-cache --no-default-groups --extra tracing --group image ${GROUP:+--group "$GROUP"} \
    && python slim.py /opt/venv/lib/python3*/site-packages
WORKDIR /srv/pressroom
COPY manage.py gunicorn.conf.py ./
COPY app app
COPY pressroom pressroom
# Collect static files without source maps, which only the developers of these packages need.
RUN LOCAL=1 STATIC_ROOT=/srv/static /opt/venv/bin/python manage.py collectstatic --no-input --verbosity 0 -i '*.map' \
    && find /opt/venv/lib/python3*/site-packages -type d -name static ! -exec test -e {}/__init__.py ';' -prune \
        -exec rm -r {} + \
    && /opt/venv/bin/python -m compileall -q app pressroom manage.py

FROM ${PYTHON_IMAGE}
# The group of that number exists, too: without a name for it, Celery warns that it runs with a superuser's privileges.
RUN groupadd --gid 10001 pressroom \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin pressroom \
    && python -c "import pathlib, pip, shutil; shutil.rmtree(pathlib.Path(pip.__file__).parent)" \
    && rm -f /usr/bin/pip* /usr/local/bin/pip*
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/static /srv/static
# The code belongs to root, so that the processes cannot change it. Tilt, which syncs code into running containers, sets
# another owner.
ARG OWNER=0
COPY --from=build --chown=${OWNER} /srv/pressroom /srv/pressroom
# Write no bytecode, because the root file system may be read-only. Do not buffer output, because a kill would lose it.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 STATIC_ROOT=/srv/static
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="Pressroom" \
      org.opencontainers.image.description="A Django stack that never loses background work." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /srv/pressroom
USER 10001:10001
EXPOSE 8000
# As process 1, Python ignores SIGTERM until it has installed a handler, seconds after its start. dumb-init forwards the
# signal to the process only, which handles its own children.
ENTRYPOINT ["dumb-init", "--single-child", "--"]
CMD ["gunicorn", "app.wsgi"]
