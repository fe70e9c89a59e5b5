# The cluster orchestrator alone in an image. Beside this file's context there must be the static binary;
# scripts/images builds both.
FROM scratch
COPY cluster-orchestrator /cluster-orchestrator
EXPOSE 10100/tcp 10100/udp 50105/udp
ENTRYPOINT ["/cluster-orchestrator"]
