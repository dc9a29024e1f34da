package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type healthCommand struct {
	serverFlags
	Timeout time.Duration `default:"3s" placeholder:"TIME"`
}

// Run asks GET /readyz, for a container without a shell.
func (c *healthCommand) Run(s *session) error {
	at, err := c.wire()
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CAFile != "" {
		if transport, err = trusting(c.CAFile); err != nil {
			return err
		}
	} else if loopback(at.url) {
		// The certificate is that of the public name. Nothing secret is sent.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(at.url, "/")+"/readyz", nil)
	if err != nil {
		return misused("--%s: %v", at.flag, err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(ask)
	if err != nil {
		next := advice(&client.Unreachable{URL: at.url, Err: err})
		return coded{advised{error: fmt.Errorf("no server answers: %w", err), next: next.String()}, exitUnreachable}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	said := plain(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return coded{fmt.Errorf("the answer of %s broke off: %w", plain(at.url), err), exitUnreachable}
	case answer.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%s is not ready: %s", plain(at.url), said)
	case wantsTLS(said):
		return coded{advised{error: fmt.Errorf("%s does not answer plain HTTP", plain(at.url)), next: say("reach.https").String()},
			exitUnreachable}
	case answer.StatusCode != http.StatusOK || !strings.HasPrefix(said, "ready"):
		return coded{fmt.Errorf("what answers at %s is no qrjump server: %s to GET /readyz", plain(at.url), answer.Status), exitUnreachable}
	}
	fmt.Fprintf(s.out, "%s is %s\n", plain(at.url), said)
	return nil
}
