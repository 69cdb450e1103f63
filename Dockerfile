# daypass in a container: not root, nothing but Python and the packages, state and recordings on a volume.
#
#   docker build -t daypass .
#   docker run --rm -v daypass:/var/lib/daypass daypass init /var/lib/daypass
#   docker run -d --name daypass --read-only --tmpfs /tmp -p 6432:6432 -e APP_PASSWORD -v daypass:/var/lib/daypass daypass
#
# In the volume's config.yaml set listen.host: 0.0.0.0 and your database. docs/how-to/run-as-a-service.md tells more.

FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The hot path is compiled by mypyc: twice the statements for the same CPU. Without DAYPASS_COMPILE it runs interpreted.
ENV DAYPASS_COMPILE=1
COPY pyproject.toml README.md LICENSE ./
COPY deploy/compile.py ./deploy/
COPY proxy ./proxy
COPY recorder ./recorder
RUN python -m venv /opt/daypass && /opt/daypass/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/daypass --create-home --shell /usr/sbin/nologin daypass
COPY --from=build /opt/daypass /opt/daypass
ENV PATH=/opt/daypass/bin:$PATH DAYPASS_CONFIG=/var/lib/daypass/config.yaml PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/daypass
VOLUME /var/lib/daypass
EXPOSE 6432
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["daypass", "health"]
ENTRYPOINT ["daypass"]
CMD ["serve"]
