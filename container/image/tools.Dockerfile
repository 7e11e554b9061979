# A base with the programs that Claude Code uses, made from one that lacks them.
# This is the only build that uses the network, and `build-image` says so.
ARG BASE
FROM ${BASE}
ARG BASE
USER root
RUN set -eu; \
    if command -v apt-get; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends git ripgrep curl ca-certificates; \
        rm -rf /var/lib/apt/lists/*; \
    elif command -v dnf; then \
        dnf install --assumeyes git ripgrep curl ca-certificates; \
        dnf clean all; \
    elif command -v microdnf; then \
        microdnf install --assumeyes git ripgrep curl ca-certificates; \
        microdnf clean all; \
    elif command -v zypper; then \
        zypper --non-interactive install git ripgrep curl ca-certificates; \
        zypper clean --all; \
    else \
        echo 'no known package manager: apt-get, dnf, microdnf, zypper' >&2; \
        exit 1; \
    fi
LABEL drawbridge.base=$BASE
