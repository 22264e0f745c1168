# Two images from one file: `web` without torch (web server, scheduler, short errands), `worker` with it.
# To take another build of torch: docker compose build --build-arg PIP_EXTRA_INDEX_URL=…

FROM python:3.11-slim AS web
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app DJANGO_SETTINGS_MODULE=hub_site.settings.prod \
    HUB_DATA=/data HUB_STATIC=/app/served
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN useradd --uid 10001 --create-home hub && \
    install --directory --owner hub --mode 0700 /data /data/blobs /data/jobs /data/mail /data/run /data/uploads
WORKDIR /app
COPY pyproject.toml constraints.txt LICENSE ./
# pg_dump and pg_restore for `manage.py backup` and `restore`: they speak TLS, and read servers up to this version.
ARG POSTGRES_CLIENT=18
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates postgresql-common && \
    /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y && \
    apt-get install --yes --no-install-recommends postgresql-client-$POSTGRES_CLIENT && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".[web]"
COPY . .
# The files that pages load are part of the image; these settings are only there to let it be made.
RUN HUB_SECRET_KEY=only-to-collect-the-files-while-the-image-is-made DATABASE_URL=postgresql://nobody@nowhere/none \
    CELERY_BROKER_URL=memory:// HUB_DATA=/tmp/build python manage.py collectstatic --noinput --verbosity 0 && \
    rm -rf /tmp/build
USER hub
EXPOSE 8000
CMD ["uvicorn", "hub_site.asgi:application", "--host", "0.0.0.0", "--timeout-graceful-shutdown", "2", \
     "--http", "hub_site.http_protocol:TimedProtocol", "--lifespan", "off", "--no-access-log", "--no-server-header"]

FROM web AS worker
USER root
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".[web,compute]"
USER hub
CMD ["celery", "--app", "hub_site.celery", "worker", "--queues", "compose", "--hostname", "compose@%h", \
     "--pool", "threads", "--concurrency", "1", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
