// Package rust_test runs HTTP clients and an SDK for Rust, and Cargo itself, with `qrjump run`.
package rust_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestHTTPClients_RedirectLine(t *testing.T) {
	program, err := filepath.Abs("target/debug/qrjump-compat-rust")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("not run: wechat-mp-sdk: not built here, see compat/run.sh")
	}
	lock, err := os.ReadFile("Cargo.lock")
	if err != nil {
		t.Fatal(err)
	}
	var clients []harness.Client
	for _, c := range []struct{ name, line string }{
		{"reqwest with rustls", `reqwest = { features = ["rustls-tls-native-roots"] }`},
		{"ureq", "TlsConfig::builder().root_certs(RootCerts::PlatformVerifier)"},
		{"wechat-mp-sdk", `reqwest = { features = ["rustls-tls-native-roots"] }`},
	} {
		crate, _, _ := strings.Cut(c.name, " ")
		version := regexp.MustCompile(`name = "` + crate + `"\nversion = "([^"]+)"`).FindSubmatch(lock)
		if version == nil {
			t.Fatalf("Cargo.lock does not pin %s", crate)
		}
		client := harness.Client{Language: "Rust", Name: c.name, Version: string(version[1]), Line: c.line,
			Command: []string{program, crate}, ByLine: []string{program, crate, "line"}}
		if client.SDK = crate == "wechat-mp-sdk"; client.SDK {
			client.Command = []string{"false"} // a build without the extra line would need a second binary; reqwest tests that case
		}
		clients = append(clients, client)
	}
	harness.Lines(t, t.TempDir(), clients...)
}

// The registry of Cargo is a URL of the platform, so that Cargo reports a missing field in the server's response.
func TestCargo_RegistryAtPlatformAddress(t *testing.T) {
	sysroot, err := exec.Command("rustc", "--print", "sysroot").Output()
	if err != nil {
		t.Skip("not run: rustc: not installed here")
	}
	bin := filepath.Join(strings.TrimSpace(string(sysroot)), "bin") // the proxies of rustup require their home folder
	cargo := filepath.Join(bin, "cargo")
	version, err := exec.Command(cargo, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	harness.Lines(t, t.TempDir(), harness.Client{Language: "Rust", Name: "Cargo", Version: strings.Fields(string(version))[1],
		Command: []string{"env", "RUSTC=" + filepath.Join(bin, "rustc"), cargo, "info", "--index",
			"sparse+https://api.weixin.qq.com/cgi-bin/token/", "tea"}, Prints: "missing field `dl`"})
}
