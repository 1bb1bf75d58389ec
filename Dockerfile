# A static binary in an empty root: nothing else to keep up to date, and nothing else to break into.

FROM rust:1-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cp "$(scripts/static)" /throughline \
 && install -d -m 0700 /state

FROM scratch
COPY --from=build /throughline /throughline
# A volume of its own if readers are to go on where they were after a restart.
COPY --from=build --chown=65532:65532 /state /var/lib/throughline
USER 65532:65532
# Within a container every address but loopback is reached from elsewhere, so that is said, and everything is open:
# publish the port on the host's loopback alone (`-p 127.0.0.1:8000:8000`) or within a network that you trust.
ENV THROUGHLINE_LISTEN=0.0.0.0:8000 \
    THROUGHLINE_ENGINE__SNAPSHOT=/var/lib/throughline/snapshot
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/throughline", "healthcheck", "--url", "http://127.0.0.1:8000"]
ENTRYPOINT ["/throughline"]
CMD ["serve", "--insecure"]
