package server

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/qrjump/qrjump/internal/accounts"
)

// Run serves until ctx ends, then drains. When the server is ready it prints
// exactly one line on stdout; logs and, on a terminal, a short welcome go to
// stderr.
func Run(ctx context.Context, c Config, stdout, stderr io.Writer) error {
	s, err := Start(ctx, c, stderr, Seams{})
	if err != nil {
		return err
	}
	if f, ok := stderr.(*os.File); ok && isTerminal(f) {
		s.welcome(ctx, stderr)
	} else if s.newToken {
		s.log.InfoContext(ctx, "the admin token was made", "file", filepath.Join(c.Data, "admin-token"))
	}
	fmt.Fprintf(stdout, "qrjump ready %s\n", s.URL)
	select {
	case <-ctx.Done():
		s.log.Info("stopping: draining running requests")
	case err = <-s.Failed():
	}
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// welcome tells a person where things are and what to try.
func (s *Server) welcome(ctx context.Context, w io.Writer) {
	fmt.Fprintf(w, "\n  API        %s\n  data       %s\n", s.URL, s.config.Data)
	if s.config.AdminToken == "" {
		fmt.Fprintf(w, "  admin token in %s\n", filepath.Join(s.config.Data, "admin-token"))
	}
	if s.newToken {
		fmt.Fprintf(w, "  it is      %s   (printed this once)\n", s.adminToken)
	}
	if s.config.Dev {
		s.tour(ctx, w)
	}
	fmt.Fprintln(w)
}

// tour prints lines that can be pasted.
func (s *Server) tour(ctx context.Context, w io.Writer) {
	page, err := s.accounts.List(ctx, "", 100)
	if err != nil {
		return
	}
	for _, a := range page {
		if a.Kind != accounts.MiniProgram || a.JumpRules() != nil {
			continue
		}
		token, err := s.accounts.OperatorToken(ctx, a.AppID)
		if err != nil {
			return
		}
		wire := func(call, body string) {
			fmt.Fprintf(w, "  curl -s '%s/cgi-bin/wxopen/%s?access_token=%s' -d '%s'\n", s.URL, call, token.Text, body)
		}
		fmt.Fprintf(w, "\n  Paste, as %s (%s):\n", a.AppID, a.Name)
		wire("qrcodejumpget", `{}`)
		wire("qrcodejumpadd", `{"prefix":"https://tour.example/t/","path":"pages/index/index","permit_sub_rule":1,"open_version":3,"is_edit":0}`)
		wire("qrcodejumppublish", `{"prefix":"https://tour.example/t/"}`)
		fmt.Fprintf(w, "  curl -s %s/scan/v1/resolve -d '{\"text\":\"https://tour.example/t/7\"}'\n", s.URL)
		fmt.Fprintf(w, "  curl -s %s/scan/v1/explain -d '{\"text\":\"https://tour.example/t\"}'\n", s.URL)
		return
	}
}
