# The image of a service, or of the gateway: docker build --build-arg SERVICE=orders -t parley/orders .
# `npm run images` builds all.
ARG BASE_IMAGE=node:24-slim
ARG BUILD_IMAGE=node:24-slim

# What npm reads, without the code: what follows is made anew only when one of these files changes.
FROM ${BUILD_IMAGE} AS manifests
WORKDIR /app
COPY . .
RUN find . -type f ! -name package.json ! -name package-lock.json ! -name .npmrc -delete

# The packages of this workspace alone, without what only compilers and debuggers read.
FROM ${BUILD_IMAGE} AS packages
ARG SERVICE
WORKDIR /app
COPY --from=manifests /app .
RUN --mount=type=cache,target=/root/.npm \
  npm ci --omit=dev --ignore-scripts --workspace="@parley/${SERVICE:?is not set: --build-arg SERVICE=orders}" && \
  find node_modules -type f \( -name '*.map' -o -name '*.ts' -o -name '*.cts' -o -name '*.mts' -o -name '*.md' \) ! -iname 'licen*' -delete

# Its code, at the paths that it has in the repository: Node strips no types under node_modules,
# which links to these folders.
FROM ${BUILD_IMAGE} AS code
ARG SERVICE
WORKDIR /app
COPY . .
RUN set -eu; \
  if [ "$SERVICE" = gateway ]; then parts="gateway services/all.ts"; else parts="services/$SERVICE"; fi; \
  mkdir -p /code /data; cp -r --parents gen chassis $parts /code; \
  ln -s "${parts%% *}/main.ts" /code/main.ts

FROM ${BASE_IMAGE}
ARG SERVICE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="parley/$SERVICE" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION" \
  org.opencontainers.image.licenses="Apache-2.0"
# /nodejs/bin is where distroless images have Node. Of the memory that the container may have, a part
# is for JavaScript's heap: the rest is for buffers, code and the heap's young generation.
ENV PATH="$PATH:/nodejs/bin" \
  NODE_ENV=production \
  NODE_OPTIONS=--max-old-space-size-percentage=60 \
  PARLEY_HOST=0.0.0.0 \
  PARLEY_DATA_DIR=/data
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY --from=code /code .
# For a volume, where keys are to be made there: all else is read only.
COPY --from=code --chown=65532:65532 /data /data
USER 65532:65532
EXPOSE 8080 9090 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["node", "--eval", \
  "fetch('http://127.0.0.1:' + (process.env.PARLEY_ADMIN_BASE_PORT || 9090) + '/livez').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "--import=/app/chassis/first-process.ts"]
CMD ["/app/main.ts"]
