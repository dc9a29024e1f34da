package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/infra/sdnotify"
)

// Run serves until ctx ends. After that, Run reports the shutdown on /readyz for ShutdownDelay, and drains the server. When the server is
// ready, Run prints exactly one line on stdout; logs and, on a terminal, a short welcome text go to stderr.
func Run(ctx context.Context, c Config, testHooks TestHooks, stdout, stderr io.Writer) error {
	logs := &bufferedWriter{to: stderr}
	defer logs.Close()
	s, err := Start(ctx, c, logs, testHooks)
	if err != nil {
		return err
	}
	if f, ok := stderr.(*os.File); ok && isTerminal(f) {
		s.welcome(ctx, stderr)
	} else if s.secrets.newToken {
		s.log.InfoContext(ctx, "admin token created", "file", filepath.Join(c.Data, "admin-token"))
	}
	if s.config.TLSDev {
		s.log.InfoContext(ctx, "local certificate authority in use", "file", certificates.AuthorityFile(c.Data),
			"names", strings.Join(devNames, " "))
	}
	supervisor := sdnotify.Find()
	s.logSupervisorError(supervisor.Ready("ready at " + s.URL))
	// The systemd watchdog is notified during the shutdown too.
	watch, stopWatch := context.WithCancel(context.Background())
	defer stopWatch()
	go supervisor.Watch(watch, s.alive)
	fmt.Fprintf(stdout, "qrjump ready %s\n", s.URL)
	select {
	case <-ctx.Done():
		s.logSupervisorError(supervisor.Stopping("stopping: running requests are drained"))
		err = s.announce(time.After(c.ShutdownDelay))
		s.serving.drainTime = max(DrainTimeout-c.ShutdownDelay, DrainTimeout/2)
	case err = <-s.Failed():
	}
	err = cmp.Or(err, s.Close())
	s.logDeviations()
	return err
}

// logSupervisorError logs a failed notification of the supervisor; without notifications, systemd ends a service of Type=notify.
func (s *Server) logSupervisorError(err error) {
	if err != nil {
		s.log.Warn("supervisor notification failed", "error", err)
	}
}

// alive reports whether the server responds to a request that it sends to itself; a draining server counts as alive.
func (s *Server) alive(ctx context.Context) error {
	if s.serving.draining.Load() {
		return nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/healthz", nil)
	if err != nil {
		return err
	}
	// The certificate is for the public name and does not match this address; the request contains no secrets.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /healthz returned %s", answer.Status)
	}
	return nil
}

// logDeviations logs, at the end of a server with --dev, the number of calls that the platform might have rejected.
func (s *Server) logDeviations() {
	if count, kinds := s.domain.usage.Deviated(); s.config.Dev && count > 0 {
		s.log.Info("calls deviated from the platform", "count", count, "behaviours", kinds,
			"hint", "to list them and how to fix them, restart with this database, then run: qrjump deviations --server "+s.URL)
	}
}

// announce makes /readyz report the shutdown while all calls are still served, so that a load balancer has stopped sending calls when the
// listeners close.
func (s *Server) announce(end <-chan time.Time) (err error) {
	s.serving.draining.Store(true)
	s.log.Info("stopping", "hint", "a second signal ends at once", "delay", s.config.ShutdownDelay)
	select {
	case <-end:
	case err = <-s.Failed():
	}
	return err
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// welcome prints the addresses of the server and commands to try.
func (s *Server) welcome(ctx context.Context, w io.Writer) {
	tell := func(key string, values ...any) { fmt.Fprintln(w, localized(key, values...).In(s.config.Language)) }
	tell("welcome.where", s.URL, s.AdminURL+console.Root)
	if !s.config.Dev {
		if single, _, err := s.domain.people.NewLink(ctx, ""); err == nil {
			tell("welcome.sign_in", s.AdminURL+console.Root, single)
		} else {
			s.log.ErrorContext(ctx, "login link not created", "hint", "qrjump login-link creates one", "error", err)
		}
	}
	tell("welcome.data", s.config.Data)
	if s.config.AdminToken == "" {
		tell("welcome.token", filepath.Join(s.config.Data, "admin-token"))
	}
	if s.secrets.newToken {
		tell("welcome.new_token", s.secrets.adminToken)
	}
	if s.config.TLSDev {
		s.trust(w)
	}
	if s.config.Dev {
		s.tour(ctx, w)
	}
	fmt.Fprintln(w)
}

// trust prints instructions for a client that always calls the platform's host names: how it can reach and trust this server.
func (s *Server) trust(w io.Writer) {
	ca := certificates.AuthorityFile(s.config.Data)
	if full, err := filepath.Abs(ca); err == nil {
		ca = full
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		return
	}
	tell := func(key string, values ...any) { fmt.Fprintln(w, localized(key, values...).In(s.config.Language)) }
	tell("welcome.trust", host, strings.Join(landing.PlatformNames, " "), ca)
	if port != "443" {
		tell("welcome.port", net.JoinHostPort(host, "443"))
	}
}

// curl returns the curl command with the options to trust this server's certificate.
func (s *Server) curl() string {
	if s.config.TLSDev {
		return "curl -s --cacert '" + certificates.AuthorityFile(s.config.Data) + "'"
	}
	return "curl -s"
}

// tour prints commands that a new user can try by pasting them into a shell.
func (s *Server) tour(ctx context.Context, w io.Writer) {
	page, err := s.domain.accounts.List(ctx, "", 100)
	if err != nil {
		return
	}
	for _, a := range page {
		if a.Kind != accounts.MiniProgram || a.JumpRules() != nil {
			continue
		}
		token, err := s.domain.accounts.OperatorToken(ctx, a.AppID)
		if err != nil {
			return
		}
		wire := func(call, body string) {
			fmt.Fprintf(w, "  %s '%s/cgi-bin/wxopen/%s?access_token=%s' -d '%s'\n", s.curl(), s.URL, call, token.Text, body)
		}
		fmt.Fprintln(w, localized("welcome.paste", a.AppID, a.Name).In(s.config.Language))
		wire("qrcodejumpget", `{}`)
		wire("qrcodejumpadd",
			`{"prefix":"https://tour.example/t/","path":"pages/index/index","permit_sub_rule":1,"open_version":3,"is_edit":0}`)
		wire("qrcodejumppublish", `{"prefix":"https://tour.example/t/"}`)
		fmt.Fprintf(w, "  %s %s/scan/v1/resolve -d '{\"text\":\"https://tour.example/t/7\"}'\n", s.curl(), s.URL)
		fmt.Fprintf(w, "  %s %s/scan/v1/explain -d '{\"text\":\"https://tour.example/t\"}'\n", s.curl(), s.URL)
		return
	}
}
