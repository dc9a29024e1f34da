package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"mime"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// Limits of the request body of an import.
const (
	maxLine   = 1 << 20 // as a request body, so that an import accepts every line of an export
	maxImport = 4 << 30
)

const ndjson = "application/x-ndjson"

// linesStored and linesTaken are texts of the API document: they describe the response and the request body of an import.
const linesStored = "everything is stored, or with dry_run could be"

var linesTaken = fmt.Sprintf("lines of at most %d MiB, %d GiB in all", maxLine>>20, maxImport>>30)

func lineOfRule(r rules.Rule) rules.SeedRule {
	line := rules.SeedRule{Owner: r.Owner, Prefix: r.Prefix.Text, Path: r.Path, Published: r.Published}
	if r.Kind == rules.KindService {
		line.AppID = r.Target
		return line
	}
	line.Occupy, line.OpenVersion, line.TestLinks = r.Occupy, &r.OpenVersion, r.TestLinks
	return line
}

func plannedRule(r *rules.SeedRule, line int) rules.Planned {
	return rules.Planned{Line: line, Owner: r.Owner, Draft: r.Draft(), Published: r.Published}
}

func lineOfAccount(a accounts.Account, linked []string) accounts.SeedAccount {
	return accounts.SeedAccount{AppID: a.AppID, AccountInput: accounts.AccountInput{Kind: a.Kind, Name: a.Name, Subject: a.Subject,
		Certified: a.Certified, Versions: a.Versions, JumpOpen: &a.JumpOpen, Members: a.Members, Features: a.Features, Linked: linked,
		MessageURL: a.MessageURL, URLScheme: a.URLScheme, Pages: a.Pages, Options: a.Options, OpenPlatform: a.OpenPlatform,
		IPAllowlist: a.IPAllowlist, SecretFrozen: a.SecretFrozen}}
}

func plannedAccount(a *accounts.SeedAccount, line int) accounts.ImportRow {
	return accounts.ImportRow{Line: line, Registration: a.Registration(a.AppID)}
}

// line is one line of an import, without its line ending.
type line struct {
	number int
	text   []byte // valid only until the next line is read
	fault  error
}

// lines yields the non-empty lines of an import.
func lines(r io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		b := bufio.NewReaderSize(r, maxLine+2)
		for n := 1; ; n++ {
			text, err := b.ReadSlice('\n')
			var fault error
			for errors.Is(err, bufio.ErrBufferFull) {
				fault = fmt.Errorf("longer than %d MiB", maxLine>>20)
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

// plan returns a function that reads all lines of the import in text, from its start on each call, and yields the plan of each line.
func plan[L, P any](text io.ReadSeeker, planned func(*L, int) P, faulty func(int, error) P) func() iter.Seq2[P, error] {
	return func() iter.Seq2[P, error] {
		return func(yield func(P, error) bool) {
			var item P
			if _, err := text.Seek(0, io.SeekStart); err != nil {
				yield(item, err)
				return
			}
			for l, err := range lines(text) {
				if err != nil {
					yield(item, err)
					return
				}
				var value L
				if l.fault == nil {
					l.fault = strictly(l.text, &value)
				}
				p := planned(&value, l.number)
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

// strictly decodes exactly one JSON object and rejects unknown fields.
func strictly(text []byte, dst any) error {
	if text[0] != '{' {
		return errors.New("want a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(dst)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s cannot be a JSON %s", wrong.Field, wrong.Value)
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the line ends in the middle of the JSON object")
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("the line has more than one JSON object")
	}
	return nil
}

// written returns an export as a file with one JSON object per line.
func written(kind string, visit func(context.Context, func(any) error) error) (adminroute.File, error) {
	return adminroute.File{Name: kind + ".ndjson", Type: ndjson, Write: func(ctx context.Context, w io.Writer) error {
		b := bufio.NewWriterSize(w, 64<<10)
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		err := visit(ctx, e.Encode)
		if err == nil {
			err = b.Flush()
		}
		if err != nil {
			return fmt.Errorf("exporting %s: %w", kind, err)
		}
		return nil
	}}, nil
}

func (a archiveAPI) exportRules(context.Context, *client.Empty) (adminroute.File, error) {
	return written("rules", func(ctx context.Context, write func(any) error) error {
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
}

func (a archiveAPI) exportAccounts(context.Context, *client.Empty) (adminroute.File, error) {
	return written("accounts", func(ctx context.Context, write func(any) error) error {
		return a.Accounts.ForEach(ctx, func(account accounts.Account, linked []string) error {
			return write(lineOfAccount(account, linked))
		})
	})
}

// importInput is the request of an import.
type importInput struct {
	adminroute.StreamBody
	client.ImportQuery
}

func (a archiveAPI) importRules(ctx context.Context, in *importInput) (client.Imported, error) {
	return a.load(ctx, "rules", in, func(text io.ReadSeeker) (accounts.Imported, error) {
		return a.Rules.Import(ctx, plan(text, plannedRule,
			func(n int, err error) rules.Planned { return rules.Planned{Line: n, Err: err} }), in.DryRun)
	})
}

func (a archiveAPI) importAccounts(ctx context.Context, in *importInput) (client.Imported, error) {
	return a.load(ctx, "accounts", in, func(text io.ReadSeeker) (accounts.Imported, error) {
		if passphrase := in.Header().Get(archivePassphrase); passphrase != "" {
			return a.importArchive(ctx, text.(*spooled), passphrase)
		}
		return a.Accounts.Import(ctx, plan(text, plannedAccount,
			func(n int, err error) accounts.ImportRow { return accounts.ImportRow{Line: n, Err: err} }), in.DryRun)
	})
}

// archivePassphrase is the request header with the passphrase of an archive, in Base64.
const archivePassphrase = "Archive-Passphrase"

func (a archiveAPI) importArchive(ctx context.Context, file *spooled, passphrase string) (done accounts.Imported, err error) {
	word, err := base64.StdEncoding.DecodeString(passphrase)
	if err != nil {
		return done, refused("Archive-Passphrase: want Base64")
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return done, err
	}
	done.Added, err = a.ImportAccounts(ctx, file, size, string(word))
	done.Lines = done.Added
	return done, err
}

// load spools a request body to disk before importing it, because its lines are read repeatedly and no transaction may wait for a client.
func (a archiveAPI) load(ctx context.Context, subject string, in *importInput,
	load func(io.ReadSeeker) (accounts.Imported, error)) (client.Imported, error) {
	defer in.Answering()
	kind, _, _ := mime.ParseMediaType(in.Header().Get("Content-Type"))
	if kind != ndjson && (kind != "application/gzip" || in.Header().Get(archivePassphrase) == "" || in.DryRun) {
		return client.Imported{}, huma.Error415UnsupportedMediaType("want Content-Type: " + ndjson)
	}
	text, err := a.spool(in)
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return client.Imported{}, huma.NewError(http.StatusRequestEntityTooLarge,
			fmt.Sprintf("larger than %d GiB: split it into several files", tooLong.Limit>>30))
	}
	if _, disk := errors.AsType[*fs.PathError](err); disk {
		// A client that is still sending does not read the response, so the rest of the body is read first.
		_, _ = io.Copy(io.Discard, io.LimitReader(in, maxImport))
		return client.Imported{}, err
	}
	if err != nil {
		a.Log.WarnContext(ctx, "an import of "+subject+" did not arrive whole; nothing was loaded", "error", err)
		return client.Imported{}, huma.Error400BadRequest("the list is incomplete; nothing was imported")
	}
	defer text.Close()
	done, err := load(text)
	return client.Imported{Lines: done.Lines, Added: done.Added, Changed: done.Changed, Unchanged: done.Unchanged, DryRun: in.DryRun},
		namingLines(err, "nothing was imported")
}

// namingLines returns a 422 error that names the invalid lines if err is a RowErrors; any other error is returned unchanged.
func namingLines(err error, detail string) error {
	faults, ok := errors.AsType[accounts.RowErrors](err)
	if !ok {
		return err
	}
	return huma.Error422UnprocessableEntity(detail, mapped(faults, func(f accounts.RowError) error {
		return &huma.ErrorDetail{Location: fmt.Sprintf("line %d", f.Line), Message: f.Reason}
	})...)
}

// spool writes a request body to a temporary file.
func (a archiveAPI) spool(body *importInput) (*spooled, error) {
	f, err := os.CreateTemp(a.Spool, ".import-*") // 0600
	if err != nil {
		return nil, err
	}
	s := &spooled{File: f}
	// Because the temporary file is unlinked at once, the disk space is freed even after a crash. Some operating systems cannot
	// remove an open file.
	s.nameless = os.Remove(f.Name()) == nil
	n, err := io.Copy(f, io.LimitReader(body, maxImport+1))
	body.Arrived()
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
