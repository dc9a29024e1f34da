package lake

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// bucket implements Place, the storage of a lake, in an S3 bucket. S3 replaces an object atomically: a reader never sees a partial object.
type bucket struct {
	client       *minio.Client
	name, prefix string
}

// parseBucket reads s3://BUCKET/PREFIX. The server and the credentials come from the usual AWS environment variables.
func parseBucket(text string) (Place, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want only s3://BUCKET/PREFIX: AWS_ENDPOINT_URL sets the server of the bucket, " +
			"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY who writes to it")
	}
	region := cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	address, err := url.Parse(endpoint)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" ||
		address.User != nil || strings.Trim(address.Path, "/") != "" {
		return nil, errors.New("AWS_ENDPOINT_URL is not a valid server URL: want a URL such as https://s3.example.com")
	}
	transport, err := minio.DefaultTransport(address.Scheme == "https")
	if err != nil {
		return nil, err
	}
	transport.ResponseHeaderTimeout = 30 * time.Second
	client, err := minio.New(address.Host, &minio.Options{Secure: address.Scheme == "https", Region: region,
		MaxRetries: 3, Transport: transport,
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Transport: transport}}})})
	if err != nil {
		return nil, err
	}
	return &bucket{client, u.Host, strings.Trim(u.Path, "/")}, nil
}

func (b *bucket) key(name string) string { return path.Join(b.prefix, name) }

func (b *bucket) wrap(doing, name string, err error) error {
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		err = fs.ErrNotExist
	}
	return fmt.Errorf("%s s3://%s/%s: %w", doing, b.name, b.key(name), err)
}

func (b *bucket) Get(ctx context.Context, name string) ([]byte, error) {
	object, err := b.client.GetObject(ctx, b.name, b.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, b.wrap("reading", name, err)
	}
	defer object.Close()
	content, err := io.ReadAll(object)
	if err != nil {
		return nil, b.wrap("reading", name, err)
	}
	return content, nil
}

func (b *bucket) Open(ctx context.Context, name string) (io.ReaderAt, int64, io.Closer, error) {
	object, err := b.client.GetObject(ctx, b.name, b.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, 0, nil, b.wrap("reading", name, err)
	}
	info, err := object.Stat()
	if err != nil {
		return nil, 0, nil, errors.Join(b.wrap("reading", name, err), object.Close())
	}
	return object, info.Size, object, nil
}

func (b *bucket) Put(ctx context.Context, name string, content []byte) error {
	// Objects of any size are uploaded in one request: a multipart upload would leave uploaded parts in the bucket after a crash.
	_, err := b.client.PutObject(ctx, b.name, b.key(name), bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{DisableMultipart: true, ContentType: contentType(name)})
	if err != nil {
		return b.wrap("writing", name, err)
	}
	return nil
}

func contentType(name string) string {
	if strings.HasSuffix(name, partSuffix) {
		return "application/vnd.apache.parquet"
	}
	return "application/json"
}

func (b *bucket) List(ctx context.Context, prefix string) (names []string, err error) {
	location := b.key(prefix)
	if strings.HasSuffix(prefix, "/") {
		location += "/"
	}
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: location, Recursive: true}) {
		if object.Err != nil {
			return nil, b.wrap("listing", prefix, object.Err)
		}
		names = append(names, strings.TrimPrefix(strings.TrimPrefix(object.Key, b.prefix), "/"))
	}
	slices.Sort(names)
	return names, nil
}
