// Package rust_test leads clients for Rust, and Cargo itself, to qrjump by the line of `qrjump run`.
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
			client.Command = []string{"false"} // its roots are chosen when it is built, so it would take a second build; reqwest shows it
		}
		clients = append(clients, client)
	}
	harness.Lines(t, t.TempDir(), clients...)
}

// Cargo asks a registry: that of this test is the platform's address, so that Cargo misses a field in what the server answers.
func TestCargo_RegistryAtPlatformAddress(t *testing.T) {
	sysroot, err := exec.Command("rustc", "--print", "sysroot").Output()
	if err != nil {
		t.Skip("not run: rustc: not installed here")
	}
	bin := filepath.Join(strings.TrimSpace(string(sysroot)), "bin") // rustup's programs ask for their home
	cargo := filepath.Join(bin, "cargo")
	version, err := exec.Command(cargo, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	harness.Lines(t, t.TempDir(), harness.Client{Language: "Rust", Name: "Cargo", Version: strings.Fields(string(version))[1],
		Command: []string{"env", "RUSTC=" + filepath.Join(bin, "rustc"), cargo, "info", "--index",
			"sparse+https://api.weixin.qq.com/cgi-bin/token/", "tea"}, Prints: "missing field `dl`"})
}
