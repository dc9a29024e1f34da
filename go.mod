module github.com/qrjump/qrjump

go 1.26.0

require (
	filippo.io/age v1.3.2 // encrypts archives and packages of codes for keys that people have already
	github.com/RoaringBitmap/roaring/v2 v2.30.0 // sets of numbers of scans and codes in little memory, in a format that others read
	github.com/alecthomas/kong v1.17.0 // the command line as structs
	github.com/anishathalye/porcupine v1.3.0 // tests: whether a history of calls is linearizable
	github.com/boombuler/barcode v1.1.0 // encodes QR codes, and Data Matrix without pairs of digits
	github.com/cespare/xxhash/v2 v2.3.0 // hash of sketches and of users: fast, and equal on every machine
	github.com/chromedp/cdproto v0.159.0 // tests: the commands of chromedp
	github.com/chromedp/chromedp v0.21.1 // tests: pages in a real browser
	github.com/coreos/go-oidc/v3 v3.21.0 // verifies the ID tokens of an OpenID Connect provider
	github.com/danielgtaylor/huma/v2 v2.37.2 // OpenAPI 3.1 and RFC 9457 from Go types: the scan and the admin API
	github.com/go-jose/go-jose/v4 v4.1.4 // the keys of an OpenID Connect provider
	github.com/goccy/go-yaml v1.19.2 // YAML whose errors name the line, with strict fields
	github.com/gofrs/flock v0.13.1 // locks the data folder against a second process, on every system
	github.com/google/go-cmp v0.7.0 // tests: readable differences
	github.com/jackc/pgx/v5 v5.12.0 // the driver of PostgreSQL, with hooks for dials and cancels
	github.com/makiuchi-d/gozxing v0.1.1 // decodes QR codes and Data Matrix independently of the encoder, and lays out large Data Matrix
	github.com/maxmind/mmdbwriter v1.2.0 // tests: writes MaxMind DB files
	github.com/minio/minio-go/v7 v7.4.1 // the lake in an S3 bucket
	github.com/nats-io/nats-server/v2 v2.15.1 // tests: a NATS server in the process
	github.com/nats-io/nats.go v1.53.1 // the scan log in NATS JetStream
	github.com/oschwald/maxminddb-golang/v2 v2.8.0 // reads MaxMind DB files: the region of an IP address
	github.com/parquet-go/parquet-go v0.31.0 // Parquet without cgo: the lake, and statistics as files
	github.com/pressly/goose/v3 v3.28.0 // migrations as embedded SQL, run by one node at a time; v3.29 requires a libc version other than the SQLite driver
	github.com/prometheus/client_golang v1.25.0 // metrics in the Prometheus format
	github.com/qrjump/qrjump/client v0.1.0 // the Go client, a module without dependencies
	github.com/rivo/uniseg v0.4.7 // width of Chinese text in terminal columns
	github.com/rogpeppe/go-internal v1.16.0 // tests: scripts of the command line (testscript)
	github.com/schollz/progressbar/v3 v3.19.1 // the progress of a download on a terminal
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1 // tests: verifies webhook signatures with the standard's own library
	github.com/tidwall/btree v1.8.2 // activated code ranges in order, copied in constant time for readers
	github.com/yuin/goldmark v1.8.7 // renders the documents, which are Markdown
	go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.72.0 // spans of HTTP requests (--otlp-endpoint)
	go.opentelemetry.io/otel v1.47.0 // attributes and states of spans
	go.opentelemetry.io/otel/exporters/otlp/otlptrace v1.47.0 // exporter of spans
	go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp v1.47.0 // OTLP over HTTP
	go.opentelemetry.io/otel/sdk v1.47.0 // batches and samples spans
	go.opentelemetry.io/otel/trace v1.47.0 // the interface of spans
	go.opentelemetry.io/proto/otlp v1.11.0 // tests: a collector of spans
	golang.org/x/crypto v0.58.0 // Argon2id for passwords, SSH keys that sign packages
	golang.org/x/image v0.47.0 // fonts on labels, and scaled logos
	golang.org/x/oauth2 v0.37.0 // token requests to an OpenID Connect provider
	golang.org/x/sync v0.24.0 // concurrent deliveries of a webhook
	golang.org/x/sys v0.49.0 // Linux namespaces in which qrjump run starts a program
	golang.org/x/term v0.47.0 // detects a terminal, and reads passwords without echo
	google.golang.org/protobuf v1.36.12 // tests: the messages of a collector
	modernc.org/libc v1.77.1 // the version that the SQLite driver requires (decision 1); tests simulate power failures through it
	modernc.org/sqlite v1.60.1 // SQLite without cgo (decision 1)
	software.sslmate.com/src/go-pkcs12 v0.7.4 // Java trust stores for qrjump run
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	filippo.io/hpke v0.4.0 // indirect
	github.com/andybalholm/brotli v1.2.3 // indirect
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/felixge/httpsnoop v1.1.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.30.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/klauspost/compress v1.20.1 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/klauspost/crc32 v1.3.0 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/minio/crc64nvme v1.1.1 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/minio/md5-simd v1.1.2 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/mschoch/smat v0.2.0 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/parquet-go/bitpack v1.0.0 // indirect
	github.com/parquet-go/jsonlite v1.0.0 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/pierrec/lz4/v4 v4.1.29 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/rs/xid v1.6.0 // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	github.com/tinylib/msgp v1.6.4 // indirect
	github.com/twpayne/go-geom v1.6.1 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel/log v1.47.0 // indirect
	go.opentelemetry.io/otel/metric v1.47.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	go4.org/netipx v0.0.0-20231129151722-fdeea329fbba // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.16.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	golang.org/x/xerrors v0.0.0-20200804184101-5ec99f83aff1 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260928230214-8a89bd6388cc // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260928230214-8a89bd6388cc // indirect
	google.golang.org/grpc v1.83.2 // indirect
	gopkg.in/ini.v1 v1.67.3 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)

replace github.com/qrjump/qrjump/client => ./client
