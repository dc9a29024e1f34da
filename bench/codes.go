package main

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const codesSeed = `accounts:
  - {appid: wxminiprogram0001, kind: mini_program, name: Coffee, secret: bench-secret0001, certified: true, versions: [release]}
  - {appid: wxserviceacct0001, kind: service_account, name: Coffee Service, secret: bench-secret0002, certified: true,
     features: [marketcode], marketcode_key: 0123456789abcdef, linked: [wxminiprogram0001]}
settings:
  rule_rate_limit: null
  daily_limits: {/intp/marketcode/tickettocode: 1000000000}
`

const marketcodeKey = "0123456789abcdef"

// serveCodes starts a server with an account that may apply for codes.
func (b *bench) serveCodes(ctx context.Context, s serve) (*qrjump, error) {
	seed := filepath.Join(b.work, "codes.yaml")
	if err := os.WriteFile(seed, []byte(codesSeed), 0o644); err != nil {
		return nil, err
	}
	s.args = append([]string{"--seed", seed, "--code-prefix", "BENCH.EXAMPLE/"}, s.args...)
	return b.serve(ctx, s)
}

// token returns an access token of the service account.
func (q *qrjump) token(ctx context.Context) (string, error) {
	var got struct {
		AccessToken string `json:"access_token"`
		ErrMsg      string
	}
	err := call(ctx, http.MethodGet, q.url+"/cgi-bin/token?grant_type=client_credential&appid=wxserviceacct0001&secret=bench-secret0002", "", nil, &got)
	if err == nil && got.AccessToken == "" {
		err = fmt.Errorf("no token: %s", got.ErrMsg)
	}
	return got.AccessToken, err
}

// wire calls an endpoint of the platform API and returns an error if the response has an error code.
func (q *qrjump) wire(ctx context.Context, name, token string, body, into any) error {
	var raw json.RawMessage
	if err := call(ctx, http.MethodPost, q.url+"/intp/marketcode/"+name+"?access_token="+token, "", body, &raw); err != nil {
		return err
	}
	var response struct {
		ErrCode int
		ErrMsg  string
	}
	if err := json.Unmarshal(raw, &response); err != nil {
		return err
	}
	if response.ErrCode != 0 {
		return fmt.Errorf("%s: %d %s", name, response.ErrCode, response.ErrMsg)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// batch applies for codes and polls until the status is FINISH; took is the elapsed time.
func (q *qrjump) batch(ctx context.Context, token, name string, count int) (id int64, took time.Duration, err error) {
	began := time.Now()
	var created struct {
		ID int64 `json:"application_id"`
	}
	if err := q.wire(ctx, "applycode", token, map[string]any{"code_count": count, "isv_application_id": name}, &created); err != nil {
		return 0, 0, err
	}
	for {
		var state struct{ Status string }
		if err := q.wire(ctx, "applycodequery", token, map[string]any{"application_id": created.ID}, &state); err != nil {
			return 0, 0, err
		}
		if state.Status == "FINISH" {
			return created.ID, time.Since(began), nil
		}
		time.Sleep(time.Millisecond)
	}
}

func (q *qrjump) activate(ctx context.Context, token string, batch int64, count int) error {
	return q.wire(ctx, "codeactive", token, map[string]any{"application_id": batch, "code_start": 0, "code_end": count - 1, "activity_name": "summer",
		"product_brand": "Coffee", "product_title": "Beans 250 g", "product_code": "4006381333931", "wxa_appid": "wxminiprogram0001", "wxa_path": "pages/item/item"}, nil)
}

func (b *bench) codes(ctx context.Context) error {
	const count = 20_000_000
	data := filepath.Join(b.work, "codes")
	q, err := b.serveCodes(ctx, serve{data: data, core: -1})
	if err != nil {
		return err
	}
	token, err := q.token(ctx)
	if err != nil {
		return err
	}
	// The first batch creates keys; the warm-up keeps that out of the measurement.
	if _, _, err := q.batch(ctx, token, "warm", 10_000); err != nil {
		return err
	}
	var applied, activated, bytes, rows []float64
	var last int64
	for round := range min(b.rounds, 5) {
		size, count0, err := q.stored(ctx)
		if err != nil {
			return err
		}
		id, took, err := q.batch(ctx, token, "bench-"+strconv.Itoa(round), count)
		if err != nil {
			return err
		}
		applied, last = append(applied, took.Seconds()), id
		began := time.Now()
		if err := q.activate(ctx, token, id, count); err != nil {
			return err
		}
		activated = append(activated, time.Since(began).Seconds())
		after, count1, err := q.stored(ctx)
		if err != nil {
			return err
		}
		bytes, rows = append(bytes, (after-size)/count), append(rows, count1-count0)
	}
	b.row(Row{What: "20M codes applied for: FINISH after", Anchor: "–", Unit: "s", Target: 1, Values: applied, Main: true})
	b.row(Row{What: "20M codes activated after", Anchor: "–", Unit: "s", Target: 1, Values: activated, Main: true})
	b.row(Row{What: "rows for 20M codes, applied and activated", Anchor: "one row each", Unit: "rows", Target: 2, Values: rows, Main: true})
	b.row(Row{What: "bytes stored a code, the batch and its activation", Anchor: "–", Unit: "bytes", Target: 0.01, Values: bytes, Main: true,
		Note: "database and journal together; a few pages for 20M codes"})
	b.note("The number of rows includes every table of the database that grew with the batch, except the call log and its counters.")

	if err := b.segments(ctx, q, token, last); err != nil {
		q.stop()
		return err
	}
	q.stop()

	// The same measurement on one core.
	q, err = b.serveCodes(ctx, serve{data: data, core: serverCore})
	if err != nil {
		return err
	}
	defer q.stop()
	if token, err = q.token(ctx); err != nil {
		return err
	}
	return b.segmentsOneCore(ctx, q, token, last)
}

// stored returns the total size of the files in the data folder and the number of rows in tables that belong to codes.
func (q *qrjump) stored(ctx context.Context) (size, rows float64, err error) {
	err = filepath.WalkDir(q.data, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += float64(info.Size())
		}
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(q.data, "qrjump.db")+"?mode=ro")
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	tables, err := db.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return 0, 0, err
	}
	var names []string
	for tables.Next() {
		var name string
		if err := tables.Scan(&name); err != nil {
			return 0, 0, err
		}
		names = append(names, name)
	}
	if err := tables.Err(); err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		// The call log and its counters grow with every call; changes is the audit log.
		if strings.HasPrefix(name, "call") || name == "counters" || name == "changes" || name == "access_tokens" {
			continue
		}
		var n float64
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+name).Scan(&n); err != nil {
			return 0, 0, err
		}
		rows += n
	}
	return size, rows, nil
}

const segmentSize = 50_000

// download reads a segment and returns the time to the first byte of the package, the total time and the length of the
// response.
func (q *qrjump) download(ctx context.Context, token string, batch int64, segment int, w io.Writer) (first, total time.Duration,
	length int64, err error) {
	body := fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d}`, batch, segment*segmentSize, (segment+1)*segmentSize-1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.url+"/intp/marketcode/applycodedownload?access_token="+token, strings.NewReader(body))
	if err != nil {
		return 0, 0, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return 0, 0, 0, err
	}
	defer res.Body.Close()
	in := bufio.NewReaderSize(res.Body, 256<<10)
	head := make([]byte, 64)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, 0, 0, err
	}
	first = time.Since(began)
	if !strings.Contains(string(head), `"errcode":0`) {
		return 0, 0, 0, fmt.Errorf("download: %s", head)
	}
	if w != nil {
		if _, err := w.Write(head); err != nil {
			return 0, 0, 0, err
		}
	} else {
		w = io.Discard
	}
	n, err := io.CopyBuffer(w, struct{ io.Reader }{in}, make([]byte, 256<<10))
	return first, time.Since(began), n + int64(len(head)), err
}

// plainSegment downloads the first segment and decrypts it; the anchor encrypts these bytes.
func (q *qrjump) plainSegment(ctx context.Context, token string, batch int64) ([]byte, error) {
	return q.plainSegmentAt(ctx, token, batch, 0)
}

func (q *qrjump) plainSegmentAt(ctx context.Context, token string, batch int64, segment int) ([]byte, error) {
	var text strings.Builder
	if _, _, _, err := q.download(ctx, token, batch, segment, &text); err != nil {
		return nil, err
	}
	var got struct{ Buffer string }
	if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
		return nil, err
	}
	sealed, err := base64.StdEncoding.DecodeString(got.Buffer)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher([]byte(marketcodeKey))
	if err != nil {
		return nil, err
	}
	if len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("a segment of %d bytes", len(sealed))
	}
	cipher.NewCBCDecrypter(block, []byte(marketcodeKey)).CryptBlocks(sealed, sealed)
	plain := sealed[:len(sealed)-int(sealed[len(sealed)-1])]
	if lines := strings.Count(string(plain), "\n"); lines != segmentSize {
		return nil, fmt.Errorf("a segment has %d rows, not %d", lines, segmentSize)
	}
	return plain, nil
}

// encryptSegment encrypts the bytes of a segment repeatedly with crypto/aes and returns the mean wall and processor time.
func encryptSegment(plain []byte, times int) (wall, used time.Duration) {
	block, err := aes.NewCipher([]byte(marketcodeKey))
	if err != nil {
		panic(err)
	}
	work := append([]byte(nil), plain[:len(plain)/aes.BlockSize*aes.BlockSize]...)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began, usedBefore := time.Now(), threadTime()
	for range times {
		cipher.NewCBCEncrypter(block, []byte(marketcodeKey)).CryptBlocks(work, work)
	}
	return time.Since(began) / time.Duration(times), (threadTime() - usedBefore) / time.Duration(times)
}

// segments measures downloads on all cores.
func (b *bench) segments(ctx context.Context, q *qrjump, token string, batch int64) error {
	plain, err := q.plainSegment(ctx, token, batch)
	if err != nil {
		return err
	}
	b.check("A segment was downloaded, decoded and decrypted; it has %d rows and %d bytes.", segmentSize, len(plain))
	const times = 5
	var wall, anchor, share, allocated []float64
	for round := range b.rounds + 1 {
		var took, first time.Duration
		const allocations = "go_memstats_alloc_bytes_total"
		idle, err := q.metric(ctx, allocations)
		if err != nil {
			return err
		}
		before, err := q.metric(ctx, allocations)
		if err != nil {
			return err
		}
		for i := range times {
			f, total, _, err := q.download(ctx, token, batch, round*times+i, nil)
			if err != nil {
				return err
			}
			took, first = took+total, first+f
		}
		after, err := q.metric(ctx, allocations)
		if err != nil {
			return err
		}
		base, _ := encryptSegment(plain, times)
		// Measure the time of a call with a short response, to subtract the fixed cost of a call from the time to the first byte.
		var other time.Duration
		for range times {
			began := time.Now()
			if err := q.wire(ctx, "applycodequery", token, map[string]any{"application_id": batch}, nil); err != nil {
				return err
			}
			other += time.Since(began)
		}
		if round == 0 {
			continue
		}
		wall, anchor = append(wall, took.Seconds()/times), append(anchor, base.Seconds())
		share, allocated = append(share, max(0, (first-other).Seconds())/took.Seconds()), append(allocated, (after-before-(before-idle))/times/1024)
	}
	b.row(Row{What: "a segment over HTTP, wall, two cores", Anchor: "Go AES-128-CBC of the same bytes", Target: 1.7, Values: ratios(wall, anchor), Main: true,
		Note: "the client that reads it has its share of the two cores"})
	b.row(Row{What: "allocated a download", Anchor: "–", Unit: "KiB", Target: 256, Values: allocated, Main: true, Note: "less what a request for the metric itself allocates"})
	b.row(Row{What: "first byte of a segment, after this share of the time", Anchor: "the whole download", Target: 0.01, Values: share, Main: true, Note: "less the time of a call of applycodequery"})
	return nil
}

// segmentsOneCore measures the processor time of downloads.
func (b *bench) segmentsOneCore(ctx context.Context, q *qrjump, token string, batch int64) error {
	plain, err := q.plainSegment(ctx, token, batch)
	if err != nil {
		return err
	}
	const times = 5
	var used, anchor []float64
	for round := range b.rounds + 1 {
		before, err := cpu(q.pid())
		if err != nil {
			return err
		}
		for i := range times {
			if _, _, _, err := q.download(ctx, token, batch, round*times+i, nil); err != nil {
				return err
			}
		}
		after, err := cpu(q.pid())
		if err != nil {
			return err
		}
		_, base := encryptSegment(plain, times)
		if round > 0 {
			used, anchor = append(used, (after-before).Seconds()/times), append(anchor, base.Seconds())
		}
	}
	b.row(Row{What: "a segment over HTTP, CPU, one core", Anchor: "Go AES-128-CBC of the same bytes", Target: 3.3, Values: ratios(used, anchor), Main: true})
	return nil
}

// metric returns the value of a metric from /metrics.
func (q *qrjump) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}
