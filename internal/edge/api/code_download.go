package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// packageReply is a response that is generated while it is sent, so that a segment of codes is never held in memory. Contract: marketcode
// §3.3, §4.
type packageReply struct {
	codes codes.PackageRange
	key   [16]byte
}

const (
	packageBegin = `{"errcode":0,"errmsg":"ok","buffer":"`
	packageEnd   = `"}`
	// writeTimeout is the write timeout for one write of a streamed response.
	writeTimeout = 30 * time.Second
)

// masked returns the response without its codes, for the call log.
func (p packageReply) masked() []byte { return []byte(packageBegin + packageEnd) }

func (p packageReply) write(ctx context.Context, w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json; encoding=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(packageBegin)+len(packageEnd))+codes.PackageSize(p.codes), 10))
	out := deadlineWriter{w, http.NewResponseController(w)}
	if _, err := io.WriteString(out, packageBegin); err != nil {
		return err
	}
	if err := codes.WritePackage(ctx, out, p.codes, p.key); err != nil {
		return err
	}
	_, err := io.WriteString(out, packageEnd)
	return err
}

// deadlineWriter extends the write deadline before each write of a streamed response.
type deadlineWriter struct {
	io.Writer
	control *http.ResponseController
}

func (p deadlineWriter) Write(b []byte) (int, error) {
	// A response recorder in a test has no deadline, so the error is ignored.
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return p.Writer.Write(b)
}

// codeRange returns the required fields code_start and code_end as a range.
func (f *fields) codeRange() codes.Range {
	from, hasFrom := f.number("code_start")
	to, hasTo := f.number("code_end")
	if f.err == nil && !(hasFrom && hasTo) {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.CodesRangeMissing, "code_start and code_end must both be given")
	}
	return codes.Range{From: int64(from), To: int64(to)}
}

// requireBatchID returns batchID and sets an error if the field is absent.
func (f *fields) requireBatchID() int64 {
	id := f.batchID()
	if f.err == nil && id == 0 {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.CodesApplicationMissing, "application_id is missing")
	}
	return id
}

func readDownload(f *fields) (id int64, r codes.Range, err error) {
	id, r = f.requireBatchID(), f.codeRange()
	return id, r, f.err
}

// downloadCodes streams a segment of codes or part of a segment. Contract: marketcode §3.3.
func (a *API) downloadCodes(ctx context.Context, c *call, f *fields) (any, error) {
	id, r, err := readDownload(f)
	if err != nil {
		return nil, err
	}
	p, key, err := a.Codes.Package(ctx, c.caller, id, r)
	return packageReply{codes: p, key: key}, err
}
