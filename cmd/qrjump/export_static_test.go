package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/rules"
)

// staticRules are published, but for those that begin with "-".
var staticRules = []string{
	"http://tea.example/t/", "http://tea.example/t/menu", "-http://tea.example/t/draft/", "http://tea.example/p?id=1",
	"-http://tea.example/p?id=10",
	"http://tea.example/p?id=2&", "http://tea.example/exact", "http://tea.example/exact/", "http://tea.example/a.b+c$d/",
	"http://tea.example/%E8%8C%B6/",
	"http://milk.example",
}

// staticLinks are links on and beside these rules.
var staticLinks = []string{
	"http://tea.example/t/", "http://tea.example/t/7", "http://tea.example/t/7?x=1", "http://tea.example/t", "http://tea.example/t/menu",
	"http://tea.example/t/menu?x", "http://tea.example/t/menu/1", "http://tea.example/t/draft/1", "http://tea.example/p?id=1",
	"http://tea.example/p?id=10", "http://tea.example/p?id=12", "http://tea.example/p?id=2", "http://tea.example/p?id=2&x=1",
	"http://tea.example/p", "http://tea.example/exact", "http://tea.example/exact?y", "http://tea.example/exact/z",
	"http://tea.example/a.b+c$d/1",
	"http://tea.example/axb+c$d/1", "http://tea.example/%E8%8C%B6/1", "http://tea.example/none", "http://milk.example/",
	"http://milk.example/?q",
	"http://milk.example/x", "http://tea.example/t//x", "http://tea.example/t/../exact",
}

// Issue 16, 5: a folder of files keeps printed codes alive. With nginx every
// link is decided as the server decides it.
func TestStaticFilesKeepCodesAlive(t *testing.T) {
	t.Chdir(t.TempDir())
	w := newWorld(t)
	environment(t, map[string]string{"SERVER": w.addr.Wire, "ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.found["TOKEN"], "APPID": "shop",
		"SECRET": "the-secret-of-both"})
	for i, prefix := range staticRules {
		words := fmt.Sprintf("%s pages/%d/%d --publish", prefix, i, i)
		if hidden, ok := strings.CutPrefix(prefix, "-"); ok {
			words = fmt.Sprintf("%s pages/%d/%d", hidden, i, i)
		}
		added := verb{path: "rule add", words: strings.ReplaceAll(words, "$", "${DOLLAR}")}
		if code, out, errs := play(t, added, map[string]string{"DOLLAR": "$"}); code != 0 {
			t.Fatal(out, errs)
		}
	}
	var logo bytes.Buffer
	if err := png.Encode(&logo, image.NewGray(image.Rect(0, 0, 30, 20))); err != nil {
		t.Fatal(err)
	}
	app, err := w.operator.Accounts.Get(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	opened := app.Put()
	opened.URLScheme = "teaapp://{appid}/{path}"
	if err := w.operator.Accounts.Set(t.Context(), "shop", opened); err != nil {
		t.Fatal(err)
	}
	look, err := w.operator.Accounts.SetAppearance(t.Context(), "shop", client.AppearancePut{Accent: "#7a3e00",
		Help:       "https://help.example/",
		OpenAtOnce: true, // no file can do that: its page has the button
		Logo:       logo.Bytes(), Texts: map[string]client.BuyerTexts{"en": {Landing: "Order <here>"}}})
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := play(t, verb{path: "export", words: "--static out"}, nil)
	if code != 0 || !strings.HasPrefix(out, "exported 9 pages of 2 hosts to out; read out/README.txt first") {
		t.Fatal(code, out, errs)
	}
	if code, _, _ := play(t, verb{path: "export", words: "--static out"}, nil); code != exitMisused {
		t.Errorf("a folder that is there: exit %d, want %d", code, exitMisused)
	}
	if code, _, _ := play(t, verb{path: "export", words: "file --static elsewhere"}, nil); code != exitMisused {
		t.Errorf("a file and a folder: exit %d, want %d", code, exitMisused)
	}
	if left, _ := filepath.Glob(".out.*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	t.Run("any file server", func(t *testing.T) {
		site := httptest.NewServer(http.FileServer(http.Dir("out/sites/tea.example")))
		t.Cleanup(site.Close)
		// Issue 17, 4: a page looks as its account says.
		for path, want := range map[string]string{"/exact": "<img src=\"" + look.Logo.Path + "\"", look.Logo.Path: "\x89PNG"} {
			if status, page := fetch(t, site.URL+path, ""); status != http.StatusOK || !strings.Contains(page, want) {
				t.Errorf("%s: %d %s", path, status, page)
			}
		}
		if _, page := fetch(t, site.URL+"/exact", ""); !strings.Contains(page, "Order &lt;here&gt;") ||
			!strings.Contains(page, `href="https://help.example/"`) ||
			!strings.Contains(page, `<a class="button" href="teaapp://shop/pages%2F7%2F7"`) {
			t.Errorf("%s", page)
		}
		for path, want := range map[string]string{"/t/": "http://tea.example/t/<", "/t/menu": "http://tea.example/t/menu<",
			"/exact": "http://tea.example/exact/<", "/404.html": "http://tea.example/p?id=1<",
			"/%E8%8C%B6/": "http://tea.example/%E8%8C%B6/<"} {
			if status, page := fetch(t, site.URL+path, ""); status != http.StatusOK || !strings.Contains(page, want) {
				t.Errorf("%s: %d, want a page with %s\n%s", path, status, want, page)
			}
		}
		if status, _ := fetch(t, site.URL+"/t/7", ""); status != http.StatusNotFound {
			t.Errorf("a link below: %d, which the README says is not found", status)
		}
	})

	t.Run("nginx", func(t *testing.T) {
		at := startNginx(t)
		scanner, err := client.New(w.addr.Scan, client.Options{ScanKey: w.found["KEY"]})
		if err != nil {
			t.Fatal(err)
		}
		opened := 0
		for _, link := range staticLinks {
			d, err := scanner.Scans.Resolve(t.Context(), client.ScanRequest{Text: link})
			if err != nil {
				t.Fatal(err)
			}
			status, page := fetch(t, at, link)
			if d.Action != client.OpenMiniProgram {
				if status != http.StatusNotFound {
					t.Errorf("%s opens nothing, and got status %d", link, status)
				}
				continue
			}
			opened++
			if prefix := d.Matched.Prefix; status != http.StatusOK || !strings.Contains(page, "<p><code>"+escaped(prefix)+"</code></p>") {
				t.Errorf("%s opens %s, and got status %d\n%s", link, prefix, status, page)
			}
		}
		if opened < 12 {
			t.Errorf("only %d links open something", opened)
		}
	})
}

// escaped is a prefix as it stands in a page.
func escaped(prefix string) string {
	return strings.NewReplacer("&", "&amp;", "+", "&#43;").Replace(prefix)
}

// fetch gets an address; with a link it asks for that, byte by byte, as its host.
func fetch(t *testing.T, at, link string) (status int, page string) {
	t.Helper()
	var answer *http.Response
	var err error
	if link == "" {
		answer, err = http.Get(at)
	} else {
		host, rest, _ := strings.Cut(strings.TrimPrefix(link, "http://"), "/")
		conn, dialErr := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
		if dialErr != nil {
			t.Fatal(dialErr)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", rest, host)
		answer, err = http.ReadResponse(bufio.NewReader(conn), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// startNginx serves the folder by the configuration in it.
func startNginx(t *testing.T) (url string) {
	t.Helper()
	needs(t, "nginx")
	at := "127.0.0.1:" + freePort(t)
	made, err := os.ReadFile("out/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := "daemon off;\nmaster_process off;\npid " + dir + "/pid;\nerror_log " + dir + "/error.log;\nevents {}\n" +
		"http {\naccess_log off;\n" +
		"types { text/html html; }\nclient_body_temp_path " + dir + ";\nproxy_temp_path " + dir + ";\nfastcgi_temp_path " + dir +
		";\nuwsgi_temp_path " + dir + ";\nscgi_temp_path " + dir + ";\n" +
		strings.Replace(string(made), "listen 80;", "listen "+at+";", 1) + "}\n"
	if err := os.WriteFile(dir+"/nginx.conf", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := exec.CommandContext(ctx, "nginx", "-p", dir, "-e", dir+"/error.log", "-c", dir+"/nginx.conf")
	var said strings.Builder
	run.Stderr = &said
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = run.Wait(); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	for {
		conn, err := net.DialTimeout("tcp", at, time.Second)
		if err == nil {
			conn.Close()
			return "http://" + at
		}
		select {
		case <-ended:
			t.Fatal("nginx ended: ", said.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The pages of one account stand nowhere but at its own host, and never in the way of others.
func TestAStaticPageStaysAtItsHost(t *testing.T) {
	var set []rules.Rule
	for i, text := range []string{"https://evil.example/%2e%2e/shop.example/", "https://evil.example/%2E%2E/%2E%2E/nginx.conf",
		"https://evil.example/404.html", "https://evil.example/index.html", "https://evil.example/" + strings.Repeat("a", 300),
		"https://evil.example/mine/", "https://shop.example/"} {
		p, err := rules.ParsePrefix(text, rules.Ordinary, false)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, rules.Rule{ID: int64(i + 1), Target: "app", Prefix: p, Path: "p", Published: true})
	}
	f := newStatic(set, []client.Account{{AppID: "app", JumpOpen: true}})
	for i, want := range []string{"", "", "", "", "", "sites/evil.example/mine/index.html", "sites/shop.example/index.html"} {
		if f.pages[i].Site != filepath.FromSlash(want) {
			t.Errorf("%s is at %q, want %q", set[i].Prefix.Text, f.pages[i].Site, want)
		}
	}
	f.dir = t.TempDir()
	if err := f.write("/srv/pages"); err != nil {
		t.Error(err)
	}
}
