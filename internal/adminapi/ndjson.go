package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/rules"
)

// Limits of what an import sends.
const (
	maxLine   = 16 << 10
	maxImport = 4 << 30
)

const ndjson = "application/x-ndjson"

// ruleLine is a rule as a seed says it.
type ruleLine struct {
	Owner       string   `json:"owner"`
	Prefix      string   `json:"prefix"`
	Path        string   `json:"path"`
	AppID       string   `json:"appid,omitempty"`
	Published   bool     `json:"published"`
	Occupy      bool     `json:"occupy,omitempty"`
	OpenVersion *int     `json:"open_version,omitempty"`
	TestLinks   []string `json:"test_links,omitempty"`
}

func lineOfRule(r rules.Rule) ruleLine {
	line := ruleLine{Owner: r.Owner, Prefix: r.Prefix.Text, Path: r.Path, Published: r.Published}
	if r.Kind == rules.Service {
		line.AppID = r.Target
		return line
	}
	line.Occupy, line.OpenVersion, line.TestLinks = r.Occupy, &r.OpenVersion, r.TestLinks
	return line
}

func (l *ruleLine) planned(line int) rules.Planned {
	d := rules.Draft{Prefix: l.Prefix, Path: l.Path, AppID: l.AppID, Occupy: l.Occupy, OpenVersion: rules.OpenRelease, TestLinks: l.TestLinks}
	if l.OpenVersion != nil {
		d.OpenVersion = *l.OpenVersion
	}
	return rules.Planned{Line: line, Owner: l.Owner, Draft: d, Published: l.Published}
}

// accountLine is an account as a seed says it. Secrets come in and never go out.
type accountLine struct {
	AppID         string                   `json:"appid"`
	Kind          accounts.Kind            `json:"kind"`
	Name          string                   `json:"name,omitempty"`
	Subject       accounts.Subject         `json:"subject,omitempty"`
	Secret        string                   `json:"secret,omitempty"`
	Certified     bool                     `json:"certified,omitempty"`
	Versions      []accounts.Version       `json:"versions,omitempty"`
	JumpOpen      *bool                    `json:"jump_open,omitempty"`
	Members       map[string]accounts.Role `json:"members,omitempty"`
	Features      []string                 `json:"features,omitempty"`
	MarketcodeKey string                   `json:"marketcode_key,omitempty"`
	Linked        []string                 `json:"linked,omitempty"`
	MessageURL    string                   `json:"message_url,omitempty"`
	URLScheme     string                   `json:"url_scheme,omitempty"`
	IPAllowlist   []string                 `json:"ip_allowlist,omitempty"`
	SecretFrozen  bool                     `json:"secret_frozen,omitempty"`
}

func lineOfAccount(a accounts.Account, linked []string) accountLine {
	return accountLine{AppID: a.AppID, Kind: a.Kind, Name: a.Name, Subject: a.Subject, Certified: a.Certified, Versions: a.Versions, JumpOpen: &a.JumpOpen,
		Members: a.Members, Features: a.Features, Linked: linked, MessageURL: a.MessageURL, URLScheme: a.URLScheme, IPAllowlist: a.IPAllowlist, SecretFrozen: a.SecretFrozen}
}

func (l *accountLine) planned(line int) accounts.Planned {
	return accounts.Planned{Line: line, Registration: accounts.Registration{Secret: l.Secret, MarketcodeKey: l.MarketcodeKey, Linked: l.Linked, Account: accounts.Account{
		AppID: l.AppID, Kind: l.Kind, Name: l.Name, Subject: l.Subject, Certified: l.Certified, Versions: l.Versions, JumpOpen: l.JumpOpen == nil || *l.JumpOpen,
		Members: l.Members, Features: l.Features, MessageURL: l.MessageURL, URLScheme: l.URLScheme, IPAllowlist: l.IPAllowlist, SecretFrozen: l.SecretFrozen}}}
}

// line is one line of a text, without its end.
type line struct {
	number int
	text   []byte // worth nothing once the next line is read
	fault  error
}

// lines yields the lines of a text that are not empty.
func lines(r io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		b := bufio.NewReaderSize(r, maxLine+2)
		for n := 1; ; n++ {
			text, err := b.ReadSlice('\n')
			var fault error
			for errors.Is(err, bufio.ErrBufferFull) {
				fault = fmt.Errorf("longer than %d KiB", maxLine>>10)
				_, err = b.ReadSlice('\n')
			}
			if err != nil && err != io.EOF {
				yield(line{}, err)
				return
			}
			if n == 1 {
				text = bytes.TrimPrefix(text, []byte("\ufeff"))
			}
			if fault == nil && !utf8.Valid(text) {
				fault = errors.New("not UTF-8")
			}
			if text = bytes.TrimSpace(text); fault != nil || len(text) > 0 {
				if !yield(line{n, text, fault}, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
		}
	}
}

// plan reads lines of a kind as often as they are wanted.
func plan[L, P any](text io.ReadSeeker, planned func(*L, int) P, faulty func(int, error) P) func() iter.Seq2[P, error] {
	return func() iter.Seq2[P, error] {
		return func(yield func(P, error) bool) {
			var none P
			if _, err := text.Seek(0, io.SeekStart); err != nil {
				yield(none, err)
				return
			}
			for l, err := range lines(text) {
				if err != nil {
					yield(none, err)
					return
				}
				var one L
				if l.fault == nil {
					l.fault = strictly(l.text, &one)
				}
				p := planned(&one, l.number)
				if l.fault != nil {
					p = faulty(l.number, l.fault)
				}
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

// strictly reads one JSON object.
func strictly(text []byte, into any) error {
	if text[0] != '{' {
		return errors.New("want a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s cannot be a JSON %s", wrong.Field, wrong.Value)
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the line ends in the middle of its object")
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more than one object on the line")
	}
	return nil
}

func (a *Admin) registerLines(api huma.API) {
	exportLines(a, api, "rules", "exportRules", "All rules, a JSON object a line as in a seed, oldest first, as they are at one moment", func(ctx context.Context, write func(any) error) error {
		for r, err := range a.Rules.Store.AllRules(ctx) {
			if err == nil {
				err = write(lineOfRule(r))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	exportLines(a, api, "accounts", "exportAccounts", "All accounts without their secrets, a JSON object a line as in a seed, as they are at one moment", func(ctx context.Context, write func(any) error) error {
		return a.Accounts.Each(ctx, func(one accounts.Account, linked []string) error { return write(lineOfAccount(one, linked)) })
	})
	importLines(a, api, "rules", "importRules", "Load rules, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none", func(ctx context.Context, text io.ReadSeeker, dry bool) (accounts.Imported, error) {
		return a.Rules.Import(ctx, plan(text, (*ruleLine).planned, func(n int, err error) rules.Planned { return rules.Planned{Line: n, Fault: err} }), dry)
	})
	importLines(a, api, "accounts", "importAccounts", "Load accounts, a JSON object a line as in a seed: all of them or, naming the lines that are wrong, none", func(ctx context.Context, text io.ReadSeeker, dry bool) (accounts.Imported, error) {
		return a.Accounts.Import(ctx, plan(text, (*accountLine).planned, func(n int, err error) accounts.Planned { return accounts.Planned{Line: n, Fault: err} }), dry)
	})
}

func linesSchema() map[string]*huma.MediaType {
	return map[string]*huma.MediaType{ndjson: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
}

func exportLines(a *Admin, api huma.API, what, id, summary string, each func(context.Context, func(any) error) error) {
	op := operation(http.MethodGet, "/export/"+what, id, summary)
	op.Responses = map[string]*huma.Response{"200": {Description: "the lines", Content: linesSchema()}}
	var running sync.Mutex // one at a time: each holds a connection while its client reads
	huma.Register(api, op, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			if !running.TryLock() {
				_ = huma.WriteErr(api, hctx, http.StatusConflict, "another export of "+what+" is running: wait for its end")
				return
			}
			defer running.Unlock()
			r, w := humago.Unwrap(hctx)
			out := &lineFile{pacer: newPacer(w), name: what}
			b := bufio.NewWriterSize(out, 64<<10)
			e := json.NewEncoder(b)
			e.SetEscapeHTML(false)
			err := each(r.Context(), e.Encode)
			if err == nil {
				err = b.Flush()
			}
			if err == nil && !out.began {
				_, err = out.Write(nil)
			}
			out.end()
			switch {
			case err == nil:
			case out.began:
				a.Log.ErrorContext(r.Context(), "an export of "+what+" broke off", "error", err)
				panic(http.ErrAbortHandler) // so that the client sees it
			default:
				a.refuse(api, hctx, fmt.Errorf("exporting %s: %w", what, err))
			}
		}}, nil
	})
}

// lineFile is an export on its way: nothing is sent before its first byte.
type lineFile struct {
	pacer
	name  string
	began bool
}

func (f *lineFile) Write(b []byte) (int, error) {
	if !f.began {
		f.began = true
		f.w.Header().Set("Content-Type", ndjson)
		f.w.Header().Set("Content-Disposition", `attachment; filename="`+f.name+`.ndjson"`)
		f.w.Header().Set("X-Content-Type-Options", "nosniff")
		f.w.Header().Set("Cache-Control", "no-store")
	}
	return f.write(b)
}

// importReport says what an import did.
type importReport struct {
	Lines     int  `json:"lines" doc:"that are not empty"`
	Added     int  `json:"added"`
	Changed   int  `json:"changed"`
	Unchanged int  `json:"unchanged" doc:"were there already, exactly so"`
	DryRun    bool `json:"dry_run" doc:"nothing was stored"`
}

func importLines(a *Admin, api huma.API, what, id, summary string, load func(ctx context.Context, text io.ReadSeeker, dry bool) (accounts.Imported, error)) {
	op := operation(http.MethodPost, "/import/"+what, id, summary)
	op.RequestBody = &huma.RequestBody{Required: true, Description: fmt.Sprintf("lines of at most %d KiB, %d GiB in all", maxLine>>10, maxImport>>30), Content: linesSchema()}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[importReport](), true, "")
	op.Responses = map[string]*huma.Response{"200": {Description: "everything is stored, or with dry_run could be", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
	var running sync.Mutex // one at a time: each may take much of the disk
	huma.Register(api, op, func(_ context.Context, in *struct {
		DryRun bool `query:"dry_run" doc:"only check"`
	}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			r, w := humago.Unwrap(hctx)
			control := http.NewResponseController(w)
			refuse := func(status int, detail string, faults ...error) {
				_ = control.SetWriteDeadline(time.Now().Add(pieceTimeout))
				_ = huma.WriteErr(api, hctx, status, detail, faults...)
			}
			if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != ndjson {
				refuse(http.StatusUnsupportedMediaType, "want Content-Type: "+ndjson)
				return
			}
			if !running.TryLock() {
				refuse(http.StatusConflict, "another import of "+what+" is running: wait for its end")
				return
			}
			defer running.Unlock()
			_ = control.SetWriteDeadline(time.Time{})
			text, err := a.spool(r.Body, control)
			if err != nil {
				if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
					refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("longer than %d GiB: bring it in several files", tooLong.Limit>>30))
					return
				}
				a.Log.WarnContext(r.Context(), "an import of "+what+" did not arrive whole; nothing was loaded", "error", err)
				refuse(http.StatusBadRequest, "the lines did not arrive whole; nothing was loaded")
				return
			}
			defer text.Close()
			done, err := load(r.Context(), text, in.DryRun)
			if faults, ok := errors.AsType[accounts.Faults](err); ok {
				named := make([]error, len(faults))
				for i, f := range faults {
					named[i] = &huma.ErrorDetail{Location: fmt.Sprintf("line %d", f.Line), Message: f.Why}
				}
				refuse(http.StatusUnprocessableEntity, "nothing was loaded", named...)
				return
			}
			if err != nil {
				problem := a.problem(r.Context(), err)
				status := http.StatusInternalServerError
				if known, ok := errors.AsType[huma.StatusError](problem); ok {
					status = known.GetStatus()
				}
				refuse(status, problem.Error())
				return
			}
			_ = control.SetWriteDeadline(time.Now().Add(pieceTimeout))
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(importReport{done.Lines, done.Added, done.Changed, done.Unchanged, in.DryRun}) // a client that is gone reads nothing
		}}, nil
	})
}

// spool keeps a body on the disk: its lines are read more than once, and no
// transaction waits for a client.
func (a *Admin) spool(body io.Reader, control *http.ResponseController) (*spooled, error) {
	f, err := os.CreateTemp(a.Spool, ".import-*") // 0600
	if err != nil {
		return nil, err
	}
	s := &spooled{File: f}
	// Without a name nothing stays behind, whatever happens; not every system can.
	s.nameless = os.Remove(f.Name()) == nil
	n, err := io.Copy(f, io.LimitReader(&timely{body, control}, maxImport+1))
	_ = control.SetReadDeadline(time.Time{})
	if err == nil && n > maxImport {
		err = &http.MaxBytesError{Limit: maxImport}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

type spooled struct {
	*os.File
	nameless bool
}

func (s *spooled) Close() error {
	err := s.File.Close()
	if !s.nameless {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}

// timely gives each piece of a body its own time.
type timely struct {
	r       io.Reader
	control *http.ResponseController
}

func (t *timely) Read(b []byte) (int, error) {
	_ = t.control.SetReadDeadline(time.Now().Add(pieceTimeout))
	return t.r.Read(b)
}
