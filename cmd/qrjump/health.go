package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type healthCommand struct {
	serverFlags
	Timeout time.Duration `default:"3s" placeholder:"TIME"`
	Wait    time.Duration `placeholder:"TIME"`
	PID     int           `name:"pid" placeholder:"PID"`
}

// waits reports whether the command waits for a server that may not have created its data folder yet.
func (c *healthCommand) waits() bool { return c.Wait > 0 }

// healthPoll is the interval between two requests while the command waits for a server.
const healthPoll = 200 * time.Millisecond

// notReadyReason is the reason why a server is not ready yet; answered is true if the server itself responded.
type notReadyReason struct {
	error
	answered bool
}

func (n notReadyReason) Unwrap() error { return n.error }

// Run sends requests until the server is ready, the time of --wait is over, or the server has ended.
func (c *healthCommand) Run(s *session) error {
	done := time.After(c.Wait)
	answered := false
	for {
		err := c.probe(s)
		n, ok := errors.AsType[notReadyReason](err)
		if !ok || c.Wait <= 0 {
			return err
		}
		if c.PID > 0 && !isProcessRunning(c.PID) {
			return exitError{fault("health.no_process", c.PID, err), exitUnreachable}
		}
		if answered && !n.answered {
			return exitError{fault("health.ended", err), exitUnreachable}
		}
		answered = answered || n.answered
		select {
		case <-done:
			return err
		case <-s.ctx.Done():
			return err
		case <-time.After(healthPoll):
		}
	}
}

// probe sends GET /readyz; a container without a shell can use the command as its health check.
func (c *healthCommand) probe(s *session) error {
	loc, err := c.wire()
	if _, wrong := errors.AsType[usageError](err); err != nil && !wrong {
		return notReadyReason{err, false} // A server writes its address into the data folder only when it has started.
	} else if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CAFile != "" {
		if transport, err = trusting(c.CAFile); err != nil {
			return err
		}
	} else if loopback(loc.url) {
		// The certificate is for the public host name, not for the loopback address. The request contains no secret, so certificate
		// verification is not needed.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(loc.url, "/")+"/readyz", nil)
	if err != nil {
		return misused("health.of", loc.flag, err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(ask)
	if err != nil {
		next := advice(&client.Unreachable{URL: loc.url, Err: err})
		reason := notReadyReason{fault("health.no_server_answers", err), false}
		return exitError{hintError{error: reason, next: next.String()}, exitUnreachable}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	tr := plain(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return exitError{fault("health.the_answer_of_broke_off", plain(loc.url), err), exitUnreachable}
	case answer.StatusCode == http.StatusServiceUnavailable:
		return notReadyReason{fault("health.is_not_ready", plain(loc.url), tr), true}
	case wantsTLS(tr):
		return exitError{hintError{error: fault("health.does_not_answer_plain_http", plain(loc.url)), next: msg("reach.https").String()},
			exitUnreachable}
	case answer.StatusCode != http.StatusOK || !strings.HasPrefix(tr, "ready"):
		return exitError{fault("health.not_qrjump", plain(loc.url), answer.Status), exitUnreachable}
	}
	printMsg(s.out, "health.is", plain(loc.url), tr)
	return nil
}
