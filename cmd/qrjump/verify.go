package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/verification"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

type verificationCheckURL struct {
	member
	URL          string `arg:"" name:"url"`
	Name         string `placeholder:"FILE"`
	Content      string `placeholder:"TEXT"`
	AllowPrivate bool
	HostCAFile   string `name:"host-ca-file" placeholder:"FILE" file:"in"`
}

// Run fetches and checks the verification file in the same way, and with the same restrictions, as the server does when an account adds a
// rule. Contract: rules §2.7.
func (c *verificationCheckURL) Run(s *session) error {
	name, content := c.Name, c.Content
	switch {
	case content == "" && (name != "" || c.AppID == "" && c.AccessToken == ""):
		return misused("verify.what_must_the_file_hold")
	case content == "":
		wire, err := c.client(s)
		if err != nil {
			return err
		}
		file, err := wire.Wire.GetVerificationFile(s.ctx)
		if err != nil {
			return fault("rule.verification_file", err)
		}
		name, content = file.Name, file.Content
	}
	address := c.URL
	link, ok := rules.ParseLink(c.URL)
	if !ok {
		return misused("verify.want_http_or_https_and", plain(c.URL))
	}
	if name != "" && path.Base(link.Path()) != name {
		address = rules.Prefix{Link: link}.ConfirmAddress(name)
	}
	steps, err := c.fetchChain(s, address, content)
	if err != nil {
		return err
	}
	last := steps[len(steps)-1]
	err = c.print(s, map[string]any{"url": address, "ok": last.OK, "steps": steps}, nil,
		func(w io.Writer) { showWalk(w, address, steps, s.reader) })
	if err == nil && !last.OK {
		err = hintError{error: errors.New(s.msg(msg("verify.refused", address, last.Action, last.Detail))), next: s.msg(last.Hint)}
	}
	return err
}

// fetchChain fetches the file and reports the result of each step.
func (c *verificationCheckURL) fetchChain(s *session, address, content string) ([]verification.Step, error) {
	fetch := safehttp.Client{AllowPrivate: c.AllowPrivate, UserAgent: "qrjump (verification file)"}
	if c.HostCAFile != "" {
		pool, err := poolOf("--host-ca-file", c.HostCAFile)
		if err != nil {
			return nil, err
		}
		fetch.RootCAs = pool
	}
	steps, err := verification.Walk(s.ctx, fetch, address, content)
	if s.ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	return steps, err
}

// markOf returns the mark at the start of a step's line.
func markOf(s verification.Step) string {
	switch {
	case !s.OK:
		return "no"
	case s.Warning:
		return "?"
	}
	return "ok"
}

// showWalk prints one line per step, with the remedy below.
func showWalk(w io.Writer, address string, steps []verification.Step, r reader) {
	fmt.Fprintln(w, plain(address))
	for _, step := range steps {
		fmt.Fprintf(w, "%-3s %-8s %s\n", markOf(step), r.msg(step.Action), plain(r.msg(step.Detail)))
		if !step.Hint.IsZero() && step.OK {
			fmt.Fprintf(w, "             %s\n", plain(r.msg(step.Hint)))
		}
	}
	if verification.InPlace(steps) {
		fmt.Fprintln(w, r.msg(msg("verify.in_place")))
	}
}

// poolOf returns a pool with the system's certificate authorities and the certificate authorities in a file.
func poolOf(flag, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, misused("batch_download.of", flag, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, misused("verify.it_has_no_certificate_in", flag, file)
	}
	return pool, nil
}
