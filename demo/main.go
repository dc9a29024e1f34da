// Command demo runs a typical workflow against a server that it starts itself, and prints every call and every response: token,
// verification file, add, publish, scan, delete. The demo prints its texts in the user's language. The demo sends nothing to other
// machines and leaves no files behind.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var texts embed.FS

// catalog is the message catalogue of the demo.
var catalog = i18n.Open(texts)

// message returns a text of the message catalogue in the language from the environment variables.
func message(key string, values ...any) string {
	language, _ := i18n.Parse(strings.ReplaceAll(cmp.Or(os.Getenv("QRJUMP_LANG"), os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"),
		os.Getenv("LANG")), "_", "-"))
	return catalog.Text(key, values...).In(language)
}

const seed = `
accounts:
  - appid: wxminiprogram0001
    kind: mini_program
    name: Coffee
    secret: secret0001
    certified: true
    versions: [release]
settings:
  # The shop of this demo is on this machine; everything else is as in production.
  verification: fetch
  allow_private_hosts: true
`

// program is the path of the binary that make build produces.
var program = filepath.Join("bin", "qrjump")

func main() {
	signal.Ignore(syscall.SIGPIPE) // If the output pipe is closed early, the demo continues, so that the server is stopped.
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "qrjump-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, stop, err := start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	shop, err := openShop()
	if err != nil {
		return err
	}
	defer shop.Close()
	d := demo{server: server, shop: shop}
	if err := d.play(); err != nil {
		return err
	}
	fmt.Printf("\n%s\n", message("end", program+" serve --dev"))
	return nil
}

// start starts the server, which runs until stop is called.
func start(dir string) (url string, stop func() error, err error) {
	if _, err := os.Stat(program); err != nil {
		return "", nil, fmt.Errorf("%w: make demo builds it; by hand, make build does", err)
	}
	fmt.Printf("== %s: qrjump serve --dev --seed demo.yaml\n", message("start"))
	seedFile := filepath.Join(dir, "demo.yaml")
	if err := os.WriteFile(seedFile, []byte(seed), 0o600); err != nil {
		return "", nil, err
	}
	logs, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(program, "serve", "--dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--seed", seedFile)
	cmd.Stderr = logs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ready := strings.CutPrefix(strings.TrimSpace(line), "qrjump ready ")
	if err != nil || !ready {
		log, _ := os.ReadFile(logs.Name())
		return "", nil, errors.Join(fmt.Errorf("the server did not start: %s", log), cmd.Process.Kill(), cmd.Wait())
	}
	fmt.Println("  ", strings.TrimSpace(line))
	return url, func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}, nil
}

// shop is the web server of the rule's owner.
type shop struct {
	*http.Server
	url  string
	file atomic.Pointer[file]
}

type file struct{ path, content string }

func openShop() (*shop, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &shop{url: "http://" + l.Addr().String()}
	s.Server = &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := s.file.Load(); f != nil && r.URL.Path == f.path {
			io.WriteString(w, f.content)
			return
		}
		http.NotFound(w, r)
	})}
	go s.Serve(l)
	return s, nil
}

type demo struct {
	server string
	shop   *shop
	token  string
}

func (d *demo) play() error {
	prefix := d.shop.url + "/t/"
	link := prefix + "7?from=door"
	add := map[string]any{"prefix": prefix, "path": "pages/table/table", "permit_sub_rule": 1, "open_version": 3, "is_edit": 0}

	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := d.get(message("token"),
		"/cgi-bin/token?grant_type=client_credential&appid=wxminiprogram0001&secret=secret0001", &token); err != nil {
		return err
	}
	d.token = token.AccessToken
	if d.token == "" {
		return errors.New("no token in the response")
	}
	var verification struct {
		FileName    string `json:"file_name"`
		FileContent string `json:"file_content"`
	}
	if err := d.wire(message("file"), "qrcodejumpdownload", map[string]any{}, 0, &verification); err != nil {
		return err
	}
	if err := d.wire(message("early"), "qrcodejumpadd", add, 85069, nil); err != nil {
		return err
	}
	if err := d.get(message("why"), "/admin/v1/verifications?limit=1", nil); err != nil {
		return err
	}
	d.shop.file.Store(&file{path: "/t/" + verification.FileName, content: verification.FileContent})
	fmt.Printf("\n== %s\n", message("placed", prefix+verification.FileName))
	if err := d.wire(message("again"), "qrcodejumpadd", add, 0, nil); err != nil {
		return err
	}
	if err := d.scan(message("unpublished"), link, "open_url"); err != nil {
		return err
	}
	if err := d.wire(message("publish"), "qrcodejumppublish", map[string]any{"prefix": prefix}, 0, nil); err != nil {
		return err
	}
	if err := d.scan(message("opens"), link, "open_mini_program"); err != nil {
		return err
	}
	if err := d.post(message("slash"), "/scan/v1/explain",
		map[string]any{"text": strings.TrimSuffix(prefix, "/")}, nil); err != nil {
		return err
	}
	if err := d.wire(message("left"), "qrcodejumpget", map[string]any{}, 0, nil); err != nil {
		return err
	}
	if err := d.wire(message("delete"), "qrcodejumpdelete", map[string]any{"prefix": prefix}, 0, nil); err != nil {
		return err
	}
	return d.scan(message("closed"), link, "open_url")
}

// wire makes one call of the platform's wire API and checks the errcode of the response.
func (d *demo) wire(title, call string, body map[string]any, want int, dst any) error {
	var answer json.RawMessage
	if err := d.post(title, "/cgi-bin/wxopen/"+call+"?access_token="+d.token, body, &answer); err != nil {
		return err
	}
	var envelope struct {
		ErrCode *int `json:"errcode"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return err
	}
	if envelope.ErrCode == nil || *envelope.ErrCode != want {
		return fmt.Errorf("%s: want errcode %d, got %s", call, want, answer)
	}
	if dst == nil {
		return nil
	}
	return json.Unmarshal(answer, dst)
}

// scan scans a text and checks the resulting action.
func (d *demo) scan(title, text, want string) error {
	var answer struct {
		Action string `json:"action"`
	}
	if err := d.post(title, "/scan/v1/resolve", map[string]any{"text": text, "user": "u-1"}, &answer); err != nil {
		return err
	}
	if answer.Action != want {
		return fmt.Errorf("scan of %s: want %s, got %s", text, want, answer.Action)
	}
	return nil
}

func (d *demo) get(title, path string, dst any) error {
	return d.do(title, http.MethodGet, path, nil, dst)
}

func (d *demo) post(title, path string, body, dst any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return d.do(title, http.MethodPost, path, b, dst)
}

func (d *demo) do(title, method, path string, body []byte, dst any) error {
	fmt.Printf("\n== %s\n", title)
	redacted := path
	if d.token != "" {
		redacted = strings.ReplaceAll(path, d.token, "TOKEN")
	}
	fmt.Printf("-> %s %s\n", method, redacted)
	if body != nil {
		fmt.Printf("   %s\n", body)
	}
	req, err := http.NewRequest(method, d.server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	fmt.Printf("<- %s\n   %s\n", resp.Status, bytes.TrimSpace(answer))
	if dst == nil {
		return nil
	}
	return json.Unmarshal(answer, dst)
}
