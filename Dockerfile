# One image for the API, the workers and the migration: the command decides which.
# It holds requirements.txt only. Postgres, Redis and the embedding model of `make run` are services
# of docker-compose.yml here.

ARG PYTHON_IMAGE=python:3.13.16-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /opt/footnote
COPY requirements.txt .
# The image's own pip installs into the environment, which so needs none. The root filesystem is
# read-only at run time, so bytecode is made now or at every start; unchecked, because copying may
# change the times of the sources, which costs a second at each start.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip venv \
    && python3 -m pip --python venv/bin/python install \
        --disable-pip-version-check --root-user-action ignore --no-compile \
        --require-hashes -r requirements.txt \
    && venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash venv/lib
COPY docker/healthcheck.py .
COPY app app
COPY worker worker
RUN venv/bin/python -m compileall -q --invalidation-mode unchecked-hash app worker healthcheck.py

FROM ${PYTHON_IMAGE}
# As in .env: eng+deu adds tesseract-ocr-deu, none leaves text recognition out.
ARG OCR_LANGUAGES=eng
RUN if [ "${OCR_LANGUAGES}" != none ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends tesseract-ocr \
            $(echo "${OCR_LANGUAGES}" | tr '+_' ' -' | sed 's/[^ ][^ ]*/tesseract-ocr-&/g') \
        && rm -rf /var/lib/apt/lists/*; \
    fi
RUN groupadd --system --gid 10001 footnote \
    && useradd --system --uid 10001 --gid footnote --no-create-home --home-dir /tmp footnote \
    && install -d -o footnote -g footnote -m 0700 /data
COPY --from=build /opt/footnote /opt/footnote
ENV PATH=/opt/footnote/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    DATA_DIR=/data
WORKDIR /opt/footnote
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "healthcheck.py", "api"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["api"]
