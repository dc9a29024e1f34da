package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type serverFlags struct {
	Server string `env:"QRJUMP_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Address of the server (${default})."`
}

// adminFlags say who the operator is.
type adminFlags struct {
	AdminToken string `env:"QRJUMP_ADMIN_TOKEN" placeholder:"TOKEN" help:"Token of the admin API."`
	Data       string `env:"QRJUMP_DATA" placeholder:"DIR" help:"The server's data folder: without --admin-token, DIR/admin-token is used (./qrjump-data for a server on this machine)."`
}

// token is the operator's token, "" where there is none: a server with --dev
// wants none.
func (f adminFlags) token(server string) (string, error) {
	if f.AdminToken != "" {
		return f.AdminToken, nil
	}
	dir := f.Data
	if dir == "" {
		// A token that lies about goes to a server on this machine only.
		if !loopback(server) {
			return "", nil
		}
		dir = "qrjump-data"
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && f.Data == "":
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading the admin token: %w", err)
	}
	return strings.TrimSpace(string(token)), nil
}

// operator are the flags of commands that call the admin API.
type operator struct {
	serverFlags
	adminFlags
	outputFlags
}

func (o operator) client() (*client.Client, error) {
	token, err := o.token(o.Server)
	if err != nil {
		return nil, err
	}
	return connect(o.Server, client.Options{AdminToken: token})
}

// member are the flags of commands that call the wire for one account.
type member struct {
	serverFlags
	AppID       string `name:"appid" env:"QRJUMP_APPID" placeholder:"APPID" help:"The account that calls."`
	Secret      string `env:"QRJUMP_SECRET" placeholder:"SECRET" help:"Its AppSecret; - reads it from standard input. In the environment it does not show in the list of processes."`
	AccessToken string `env:"QRJUMP_ACCESS_TOKEN" placeholder:"TOKEN" help:"An access token, instead of --appid and --secret."`
	outputFlags
}

// rateRetries is how often a refusal as too frequent is waited out.
const rateRetries = 5

func (m member) client(s *session) (*client.Client, error) {
	o := client.Options{AppID: m.AppID, Secret: m.Secret, AccessToken: m.AccessToken, RateRetries: rateRetries}
	if o.AccessToken == "" {
		switch {
		case o.AppID == "":
			return nil, misused("who calls? give --appid and --secret (QRJUMP_APPID, QRJUMP_SECRET), or --access-token")
		case o.Secret == "":
			return nil, misused("the secret of %s is missing: give --secret (QRJUMP_SECRET), or --access-token", o.AppID)
		}
		var err error
		if o.Secret, err = secret(s, o.Secret); err != nil {
			return nil, err
		}
	}
	return connect(m.Server, o)
}

func connect(server string, o client.Options) (*client.Client, error) {
	c, err := client.New(server, o)
	if err != nil {
		return nil, misused("--%v", err)
	}
	return c, nil
}

// secret reads a secret from standard input where the flag says "-".
func secret(s *session, flag string) (string, error) {
	if flag != "-" {
		return flag, nil
	}
	line, err := bufio.NewReader(io.LimitReader(s.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the secret from standard input: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", misused("--secret -: standard input is empty")
	}
	return line, nil
}

// isPlatform reports whether a server is the real platform, which must never
// see an operator's token.
func isPlatform(server string) bool {
	u, err := url.Parse(server)
	return err == nil && (u.Hostname() == "weixin.qq.com" || strings.HasSuffix(u.Hostname(), ".weixin.qq.com"))
}
