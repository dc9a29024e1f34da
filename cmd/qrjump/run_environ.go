package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/qrjump/qrjump/internal/server"
)

// storePassword is the password of the trust store, which contains no secrets; Java's own trust store has the same password.
const storePassword = "changeit"

// nodeProxy is a script that makes older versions of Node.js use the proxy; leadNode inserts the platform's host names.
//
//go:embed run_node.cjs
var nodeProxy string

// pythonSite is a script that makes Python's certifi use the bundle from SSL_CERT_FILE.
//
//go:embed run_python.py
var pythonSite []byte

// rootFiles lists the usual paths of the system's trusted certificate authorities.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem", // openSUSE
	"/etc/ssl/cert.pem",      // macOS, FreeBSD
}

// outputVariables lists the QRJUMP_ variables that the program keeps, because they only control the output of commands. The program does
// not get the other QRJUMP_ variables: they are about other servers, and some contain secrets.
var outputVariables = []string{"QRJUMP_LANG", "QRJUMP_OUTPUT", "QRJUMP_UTC"}

// environOf returns the program's environment, which makes the program use the local server as a proxy for the platform, and contains the
// credentials of seed accounts. environOf writes the files that the variables name into dir.
func environOf(ctx context.Context, srv *server.Server, dir string, environ []string, says io.Writer) ([]string, error) {
	set := variables{}
	for _, entry := range environ {
		// On Windows, names of environment variables are case-insensitive.
		name, _, _ := strings.Cut(entry, "=")
		if upper := strings.ToUpper(name); strings.HasPrefix(upper, "QRJUMP_") && !slices.Contains(outputVariables, upper) {
			set[name] = ""
		}
	}
	set["QRJUMP_SERVER"] = srv.URL
	for kind, name := range map[string]string{"mini_program": "QRJUMP_", "service_account": "QRJUMP_SERVICE_",
		"component": "QRJUMP_COMPONENT_"} {
		set[name+"APPID"], set[name+"SECRET"] = srv.DemoAccount(ctx, kind)
	}
	// The program gets its own temporary directory: many SDKs cache tokens there, and tokens of an earlier server are invalid here.
	temporary := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return nil, err
	}
	set["TMPDIR"], set["TMP"], set["TEMP"] = temporary, temporary, temporary
	u, err := url.Parse(srv.URL)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		set[name], set[strings.ToLower(name)] = srv.URL, srv.URL
	}
	set["NO_PROXY"] = joined(",", variable(environ, "NO_PROXY"), variable(environ, "no_proxy"), "localhost,127.0.0.1,::1")
	set["no_proxy"] = set["NO_PROXY"]
	ca, err := srv.Authority()
	if err == nil {
		err = set.trust(ca, dir, u, environ, says)
	}
	if err == nil {
		err = set.leadNode(dir, environ)
	}
	if err != nil {
		return nil, fault("run.trust", err)
	}
	return set.merge(environ), nil
}

// trust makes the runtimes of all supported languages trust the server's certificate authority in addition to the system's.
func (v variables) trust(ca, dir string, u *url.URL, environ []string, says io.Writer) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := systemRoots(environ)
	if roots == nil {
		printMsg(says, "run.no_authorities")
	}
	all := append(append(bytes.TrimSpace(roots), '\n'), pem...)
	bundle, store, ini := filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "trust.p12"), filepath.Join(dir, "php")
	trusted, err := trustStore(all)
	if err != nil {
		return err
	}
	python := filepath.Join(dir, "python")
	v["PYTHONPATH"] = joined(string(os.PathListSeparator), python, variable(environ, "PYTHONPATH"))
	// The user's wgetrc file may be absent.
	wgetrc, _ := os.ReadFile(cmp.Or(variable(environ, "WGETRC"), filepath.Join(variable(environ, "HOME"), ".wgetrc")))
	v["WGETRC"] = filepath.Join(dir, "wgetrc")
	for name, text := range map[string][]byte{bundle: all, store: trusted, filepath.Join(python, "sitecustomize.py"): pythonSite,
		v["WGETRC"]:                      fmt.Appendf(wgetrc, "\nca_certificate=%s\n", bundle),
		filepath.Join(ini, "qrjump.ini"): fmt.Appendf(nil, "curl.cainfo=%q\nopenssl.cafile=%q\n", bundle, bundle)} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return err
		}
	}
	for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PERL_LWP_SSL_CA_FILE", "DENO_CERT",
		"CARGO_HTTP_CAINFO", "HTTPLIB2_CA_CERTS"} {
		v[name] = bundle
	}
	v["NODE_EXTRA_CA_CERTS"] = bundle
	v["PERL_LWP_ENV_PROXY"], v["MOJO_PROXY"] = "1", "1"
	// An empty entry stands for PHP's default folder.
	list := string(os.PathListSeparator)
	v["PHP_INI_SCAN_DIR"] = variable(environ, "PHP_INI_SCAN_DIR") + list + ini
	java := []string{variable(environ, "JAVA_TOOL_OPTIONS")}
	for _, item := range []string{"http.proxyHost=" + u.Hostname(), "http.proxyPort=" + u.Port(), "https.proxyHost=" + u.Hostname(),
		"https.proxyPort=" + u.Port(), "http.nonProxyHosts=localhost|127.*|[::1]", "javax.net.ssl.trustStore=" + store,
		"javax.net.ssl.trustStoreType=PKCS12", "javax.net.ssl.trustStorePassword=" + storePassword} {
		item = "-D" + item
		if strings.ContainsAny(item, " \t") {
			item = `"` + item + `"`
		}
		java = append(java, item)
	}
	v["JAVA_TOOL_OPTIONS"] = joined(" ", java...)
	return nil
}

// leadNode makes Node.js use the proxy: from versions 24 and 22.21 on through a variable, in older versions through a preloaded script.
func (v variables) leadNode(dir string, environ []string) error {
	v["NODE_USE_ENV_PROXY"] = "1"
	names, err := json.Marshal(server.PlatformNames)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "proxy.cjs")
	// Within quotes, NODE_OPTIONS treats a backslash as an escape character.
	v["NODE_OPTIONS"] = joined(" ", variable(environ, "NODE_OPTIONS"), `--require "`+filepath.ToSlash(file)+`"`)
	return os.WriteFile(file, []byte(strings.Replace(nodeProxy, "PLATFORM_NAMES", string(names), 1)), 0o600)
}

// systemRoots returns the certificate authorities that the program would trust otherwise: those in a file that an environment variable
// names, else those of the system; nil if no file is found.
func systemRoots(environ []string) []byte {
	for _, name := range append([]string{variable(environ, "SSL_CERT_FILE"), variable(environ, "CURL_CA_BUNDLE"),
		variable(environ, "REQUESTS_CA_BUNDLE")}, rootFiles...) {
		if text, err := os.ReadFile(cmp.Or(name, "-")); err == nil && bytes.Contains(text, []byte("-----BEGIN ")) {
			return text
		}
	}
	return nil
}

// trustStore converts trusted certificate authorities to a Java trust store. All Java versions since 8 can read the PKCS#12 format.
func trustStore(text []byte) ([]byte, error) {
	var list []pkcs12.TrustStoreEntry
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		// A certificate that Go cannot parse is skipped.
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			list = append(list, pkcs12.TrustStoreEntry{Cert: certificate, FriendlyName: "root" + strconv.Itoa(len(list))})
		}
	}
	return pkcs12.LegacyDES.EncodeTrustStoreEntries(list, storePassword)
}

// variables maps names of environment variables to new values; "" unsets a variable.
type variables map[string]string

// merge returns a copy of environ with the values of v; variables whose value in v is "" are removed.
func (v variables) merge(environ []string) []string {
	var list []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if _, replaced := v[name]; !replaced {
			list = append(list, entry)
		}
	}
	for name, value := range v {
		if value != "" {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// variable returns the value of the last entry for a name in the environment.
func variable(environ []string, name string) (value string) {
	for _, entry := range environ {
		if text, ok := strings.CutPrefix(entry, name+"="); ok {
			value = text
		}
	}
	return value
}

// joined joins the non-empty texts with a separator.
func joined(separator string, list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(text string) bool { return text == "" }), separator)
}

// directly returns an HTTP client without a proxy, because this program may itself run under another qrjump run.
func directly() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	return &http.Client{Transport: transport}
}
