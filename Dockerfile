# docker build --build-arg VERSION=0.1.0 -t qrjump .
# `make release` writes the same image without an engine, and the same bytes each time: qrjump-VERSION.oci.tar.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.1.0-dev
ARG COMMIT=
ARG DATE=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /out/usr/bin/qrjump -ldflags "-s -w -buildid= \
      -X github.com/qrjump/qrjump/internal/infra/version.number=$VERSION \
      -X github.com/qrjump/qrjump/internal/infra/version.commit=$COMMIT \
      -X github.com/qrjump/qrjump/internal/infra/version.date=$DATE" ./cmd/qrjump \
 && mkdir -p /out/etc/ssl/certs /out/tmp /out/var/lib/qrjump \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && echo 'qrjump:x:65532:65532::/var/lib/qrjump:/nothing' > /out/etc/passwd \
 && chmod 1777 /out/tmp && chmod 0700 /out/var/lib/qrjump && chown 65532:65532 /out/var/lib/qrjump

FROM scratch
COPY --from=build /out /
USER 65532:65532
WORKDIR /var/lib/qrjump
ENV QRJUMP_DATA=/var/lib/qrjump QRJUMP_LISTEN=0.0.0.0:8080
VOLUME /var/lib/qrjump
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/bin/qrjump", "health"]
ENTRYPOINT ["/usr/bin/qrjump"]
CMD ["serve"]
