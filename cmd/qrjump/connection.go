package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/server"
)

// defaultServer is the default address of a server.
const defaultServer = "http://127.0.0.1:8080"

// serverFlags holds the flags that locate a server.
type serverFlags struct {
	Context string `env:"QRJUMP_CONTEXT" placeholder:"NAME"`
	Server  string `env:"QRJUMP_SERVER" placeholder:"URL"`
	Data    string `env:"QRJUMP_DATA" placeholder:"DIR" file:"dir"`
	CAFile  string `name:"ca-file" env:"QRJUMP_CA_FILE" placeholder:"FILE" file:"in"`
}

// adminFlags holds the address of the admin API and the operator's token.
type adminFlags struct {
	AdminServer string `env:"QRJUMP_ADMIN_SERVER" placeholder:"URL"`
	AdminToken  string `env:"QRJUMP_ADMIN_TOKEN" placeholder:"TOKEN"`
}

// serverFlagNames lists the flags that locate a server, for use in messages.
const serverFlagNames = "--server (--admin-server, --scan-server)"

// place is the address of an API, and the flag that sets it.
type place struct{ url, flag string }

// wire returns the address of the wire API.
func (f serverFlags) wire() (place, error) {
	if f.Server != "" {
		return place{f.Server, "server"}, nil
	}
	return f.find("server", "", func(a server.Addresses) string { return a.Wire })
}

// scan returns the address of the scan API; given is the value of --scan-server.
func (f serverFlags) scan(given string) (place, error) {
	return f.find("scan-server", given, func(a server.Addresses) string { return a.Scan })
}

// admin returns the address of the admin API and the operator's token. If no token is known, the token is "", because a server with --dev
// needs none.
func (f serverFlags) admin(a adminFlags) (loc place, token string, err error) {
	loc, err = f.find("admin-server", a.AdminServer, func(a server.Addresses) string { return a.Admin })
	if err != nil {
		return loc, "", err
	}
	if isPlatform(loc.url) {
		return loc, "", misused("connection.has_no_admin_api_name", plain(loc.url))
	}
	token, err = f.token(a, loc.url)
	return loc, token, err
}

// find returns the address of an API: the value of the API's own flag, else the value of --server, else the recorded address in the data
// folder. If --server is an address of the server that uses the data folder, find takes the API's address from the folder instead.
func (f serverFlags) find(flag, given string, lookup func(server.Addresses) string) (place, error) {
	if given != "" {
		return place{given, flag}, nil
	}
	dir := cmp.Or(f.Data, "qrjump-data")
	addrs, err := server.ReadAddresses(dir)
	isEmpty := errors.Is(err, fs.ErrNotExist)
	switch {
	case f.Server != "" && (err != nil || !listensAt(addrs, f.Server)):
		return place{f.Server, "server"}, nil
	case f.Data == "" && (isEmpty || errors.Is(err, fs.ErrPermission)):
		return place{defaultServer, "server"}, nil
	case isEmpty:
		return place{}, fault("connection.no_address", dir, shellWord(dir), serverFlagNames)
	case err != nil:
		return place{}, err
	}
	// A forged address in a data folder must not make the command send secrets to a machine that the user did not name.
	if address := lookup(addrs); f.Data == "" && !loopback(address) && !sameHost(address, f.Server) {
		return place{}, misused("connection.other_address", dir, plain(address), dir, flag)
	}
	return place{lookup(addrs), flag}, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// listensAt reports whether an address is one of the recorded addresses of a local server.
func listensAt(addrs server.Addresses, address string) bool {
	return sameServer(addrs.Wire, address) || sameServer(addrs.Scan, address) || sameServer(addrs.Admin, address)
}

// sameServer reports whether two addresses name the same listener on this machine, or have the same scheme, host and port.
func sameServer(a, b string) bool {
	first, err := url.Parse(a)
	second, err2 := url.Parse(b)
	if err != nil || err2 != nil || first.Scheme != second.Scheme {
		return false
	}
	port := func(u *url.URL) string {
		return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return port(first) == port(second) && (first.Hostname() == second.Hostname() || loopback(a) && loopback(b))
}

// sameHost reports whether two addresses have the same scheme and host name.
func sameHost(a, b string) bool {
	first, err := url.Parse(a)
	second, err2 := url.Parse(b)
	return err == nil && err2 == nil && first.Scheme == second.Scheme && first.Hostname() == second.Hostname()
}

// token returns the operator's token for the admin API at an address.
func (f serverFlags) token(a adminFlags, location string) (string, error) {
	if a.AdminToken != "" {
		return a.AdminToken, nil
	}
	// The token of a data folder is sent only to a server on this machine, and to the host of the server that uses the folder. A folder
	// that the user did not name may be forged or belong to another server, so its token is sent only to the server that uses it.
	dir := cmp.Or(f.Data, "qrjump-data")
	addrs, err := server.ReadAddresses(dir)
	if !loopback(location) && (f.Data == "" || err != nil || !sameHost(addrs.Admin, location)) ||
		f.Data == "" && (err != nil || !listensAt(addrs, location)) {
		return "", nil
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && f.Data == "":
		return "", nil
	case err != nil:
		return "", fault("connection.reading_the_admin_token", err)
	}
	return strings.TrimSpace(string(token)), nil
}

// asOperator returns a client of the admin API.
func (f serverFlags) asOperator(a adminFlags) (*client.Client, error) {
	loc, token, err := f.admin(a)
	if err != nil {
		return nil, err
	}
	return f.connect(loc, client.Options{AdminToken: token})
}

// adminAccess holds the flags that locate the admin API.
type adminAccess struct {
	serverFlags
	adminFlags
}

func (a adminAccess) client() (*client.Client, error) { return a.asOperator(a.adminFlags) }

// ProvideClient makes the client that a Run method with a client parameter receives. No connection is opened before the first call.
func (a adminAccess) ProvideClient() (*client.Client, error) { return a.client() }

// operator holds the flags of commands that call the admin API.
type operator struct {
	adminAccess
	outputFlags
}

// member holds the flags of commands that call the wire API for one account.
type member struct {
	serverFlags
	AppID       string `name:"appid" env:"QRJUMP_APPID" placeholder:"APPID"`
	Secret      string `env:"QRJUMP_SECRET" placeholder:"SECRET" file:"in,self" absent:""`
	AccessToken string `env:"QRJUMP_ACCESS_TOKEN" placeholder:"TOKEN"`
	outputFlags
}

// rateRetries is the number of times that a rate-limited call is retried.
const rateRetries = 5

// ProvideClient makes the client of the wire API that a Run method with a client parameter receives.
func (m member) ProvideClient(s *session) (*client.Client, error) { return m.client(s) }

func (m member) client(s *session) (*client.Client, error) {
	o := client.Options{AppID: m.AppID, Secret: m.Secret, AccessToken: m.AccessToken, RateRetries: rateRetries}
	if o.AccessToken == "" {
		switch {
		case o.AppID == "":
			return nil, misused("connection.missing_credentials")
		case o.Secret == "":
			return nil, misused("connection.the_secret_of_is_missing", o.AppID)
		}
		var err error
		if o.Secret, err = secret(s, o.Secret); err != nil {
			return nil, err
		}
	}
	loc, err := m.wire()
	if err != nil {
		return nil, err
	}
	return m.connect(loc, o)
}

// command returns a command line that calls the same server as the same account; the placeholder SECRET replaces the secret.
func (m member) command(args ...string) string {
	var line strings.Builder
	line.WriteString("qrjump " + shellWords(args...))
	for _, values := range [][3]string{{"context", m.Context, "QRJUMP_CONTEXT"}, {"server", m.Server, "QRJUMP_SERVER"},
		{"data", m.Data, "QRJUMP_DATA"}, {"ca-file", m.CAFile, "QRJUMP_CA_FILE"}, {"appid", m.AppID, "QRJUMP_APPID"}} {
		if values[1] != "" && values[1] != os.Getenv(values[2]) && (values[0] == "context" || m.Context == "") {
			line.WriteString(" " + shellWord("--"+values[0]+"="+values[1]))
		}
	}
	if m.Secret != "" && m.Secret != os.Getenv("QRJUMP_SECRET") && m.Context == "" {
		line.WriteString(" --secret=SECRET")
	}
	return line.String()
}

// mistaken adds a similar AppID to an error about an unknown AppID if the admin API is accessible with the token of a data folder.
func (m member) mistaken(s *session, err error) error {
	if w, ok := errors.AsType[*client.WireError](err); !ok || w.Code != errcode.InvalidAppID.Number || m.AppID == "" {
		return err
	}
	operator, missing := m.asOperator(adminFlags{})
	if missing != nil {
		return err
	}
	if meant := nearAccount(s, operator, m.AppID); meant != "" {
		return hintError{error: fmt.Errorf("%w%s", err, meant), next: tr("account.see_qrjump_account_list")}
	}
	return err
}

// authority returns the file with a certificate authority that the client trusts at an address in addition to the system's authorities. The
// file is the value of --ca-file, else the file of serve --tls-dev in the data folder if the folder's server has this address, else "". The
// default data folder, which the user did not name, is used only for addresses on this machine.
func (f serverFlags) authority(address string) string {
	dir := cmp.Or(f.Data, "qrjump-data")
	file := certificates.AuthorityFile(dir)
	switch addrs, err := server.ReadAddresses(dir); {
	case f.CAFile != "":
		return f.CAFile
	case !strings.HasPrefix(address, "https://"), err != nil, f.Data == "" && !loopback(address), !listensAt(addrs, address):
		return ""
	}
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// connect returns a client for a server; the client also trusts the certificate authority that the method authority returns.
func (f serverFlags) connect(loc place, o client.Options) (*client.Client, error) {
	tripper := http.DefaultTransport
	if file := f.authority(loc.url); file != "" {
		transport, err := trusting(file)
		if err != nil {
			return nil, err
		}
		tripper = transport
	}
	sent.server, o.HTTP = loc.url, &http.Client{Transport: sent.watch(tripper)}
	c, err := client.New(loc.url, o)
	if err != nil {
		return nil, usageError("--" + loc.flag + strings.TrimPrefix(inReader(err).Error(), "server"))
	}
	return c, nil
}

// trusting returns a transport that trusts the certificate authorities in a file.
func trusting(file string) (*http.Transport, error) {
	pool, err := poolOf("--ca-file", file)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return transport, nil
}

// secret returns the flag's value, or reads the secret from standard input if the value is "-".
func secret(s *session, flag string) (string, error) {
	if flag != "-" {
		return flag, nil
	}
	line, err := firstLine(s.in)
	if err != nil {
		return "", fault("connection.reading_the_secret_from_standard", err)
	}
	if line == "" {
		return "", misused("connection.secret_standard_input_is_empty")
	}
	return line, nil
}

// isPlatform reports whether a server is the real platform, which must never see an operator's token.
func isPlatform(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Hostname() == "weixin.qq.com" || strings.HasSuffix(u.Hostname(), ".weixin.qq.com"))
}
