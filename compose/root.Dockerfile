# The root orchestrator alone in an image. Beside this file's context there must be the static binary; scripts/images
# builds both.
FROM scratch
COPY root-orchestrator /root-orchestrator
EXPOSE 10000 50052 50106/udp
ENTRYPOINT ["/root-orchestrator"]
