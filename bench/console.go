package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Page is the measured cost of one page of the console at two sizes.
type Page struct {
	Path string
	// Small and Whole are, by round, the processor time of the page divided by that of /healthz on the same server, with
	// a hundredth of the data and with all data.
	Small, Whole []float64
	// Why is the reason if the page was not measured.
	Why string `json:",omitempty"`
}

// growth returns the ratio with all data divided by the ratio with a hundredth of the data.
func (p Page) growth() float64 { return quantile(p.Whole, 0.5) / quantile(p.Small, 0.5) }

// consolePages are the measured pages of the console of a production server. Words in capitals are placeholders that
// prepare replaces.
var consolePages = []string{
	"/console/home", "/console/home?account=OWNER", "/console/search?q=shop", "/console/search?q=shop&all=1", "/console/search?q=LINK",
	"/console/calls", "/console/calls?view=errors", "/console/calls?account=wxminiprogram0001", "/console/calls/RID",
	"/console/calls/behaviours", "/console/calls/deviations",
	"/console/scan", "/console/scan?text=LINK", "/console/scan?text=LINK&moment=published",
	"/console/rules", "/console/rules?owner=OWNER", "/console/rules?text=a", "/console/rules?state=published&order=oldest", "/console/rules?prefix=PREFIX", "/console/rules/import", "/console/rules/new",
	"/console/rules/new?owner=OWNER&prefix=PREFIX&path=pages/a", "/console/rules/edit?owner=OWNER&prefix=PREFIX",
	"/console/codes", "/console/codes?code=BATCH:7", "/console/codes/BATCH",
	"/console/packages", "/console/packages/PACKAGE", "/console/orders", "/console/gs1", "/console/alarms",
	"/console/statistics", "/console/statistics/most", "/console/statistics/unmatched",
	"/console/statistics?by=&group=activity", "/console/statistics?by=&group=result&alarms=all",
	"/console/statistics?account=OWNER", "/console/statistics?activity=activity+1", "/console/statistics?from=BEGAN&to=ENDED",
	"/console/statistics/scans", "/console/statistics/scans?appid=OWNER", "/console/statistics/scans/SCAN",
	"/console/accounts", "/console/accounts/OWNER", "/console/accounts/wxserviceacct0001", "/console/accounts?make=mini_program",
	"/console/accounts/OWNER/edit", "/console/accounts/OWNER/appearance",
	"/console/platforms", "/console/platforms/plat",
	"/console/operate", "/console/operate/settings", "/console/operate/webhooks", "/console/operate/checks", "/console/operate/audit",
	"/console/operate/audit?kind=rule&actor=admin", "/console/operate/apps", "/console/operate/bulk",
	"/console/people", "/console/self", "/console/sessions",
}

// requestsOfPage is the number of requests of a page in a round.
const requestsOfPage = 5

// The full size of this section is a tenth of the year of a large brand, which fits on most disks: a million rules and 30 million
// scans. The rules belong to 10,000 accounts, because accounts with many rules are the ones viewed in the console.
const consoleFactor, consoleRulesOfAccount = 0.1, 100

// console measures each page of the console against /healthz of the same server, with a hundredth of the data and with
// all data.
func (b *bench) console(ctx context.Context) error {
	timeout := client.Timeout
	client.Timeout = 10 * time.Minute // the first request of a page may read much from the disk
	defer func() { client.Timeout = timeout }()
	pages := make([]Page, len(consolePages))
	for i, path := range consolePages {
		pages[i].Path = path
	}
	for _, full := range []bool{false, true} {
		factor := consoleFactor * b.scale
		if !full {
			factor /= 100
		}
		size := grownSizeFor(factor)
		size.RulesOfAccount = consoleRulesOfAccount
		size.Accounts = size.Rules / size.RulesOfAccount
		data, g, err := b.grownFolder(ctx, "console", size)
		if err != nil {
			return err
		}
		b.noteDataSet(fmt.Sprintf("the column %q", column(full)), g)
		if days := int(time.Since(g.Now).Hours() / 24); days > 0 {
			b.note("The data folder for %s was filled %d days ago; therefore pages of the last days show fewer scans.", column(full), days)
		}
		if err := b.consoleWith(ctx, data, g, full, pages); err != nil {
			return fmt.Errorf("%s: %w", column(full), err)
		}
	}
	b.out.Pages = pages
	b.reportPages(pages)
	return nil
}

func column(full bool) string {
	if full {
		return "the whole"
	}
	return "a hundredth"
}

func (b *bench) reportPages(pages []Page) {
	var slow, growths []float64
	for _, p := range pages {
		if p.Why != "" {
			b.missing("%s: %s", p.Path, p.Why)
			continue
		}
		slow, growths = append(slow, quantile(p.Whole, 0.5)), append(growths, p.growth())
		fmt.Printf("   %-62s %8s %8s %8s\n", p.Path, number(quantile(p.Small, 0.5)), number(quantile(p.Whole, 0.5)), number(p.growth()))
	}
	const over = "over the pages"
	b.row(Row{What: "time of a page of the console, the whole", Anchor: "`/healthz` of the same server", Values: slow, Note: over})
	b.row(Row{What: "time of a page of the console, the whole", Anchor: "the same page at a hundredth, each beside `/healthz`",
		Values: growths, Note: over, Main: true})
	b.note("The time of a page is the processor time of the server, for a browser that is signed in with the admin token. "+
		"In each round, each page is requested %[1]d times, after %[1]d requests of `/healthz`. The ratio compares the mean of the page "+
		"with the median of `/healthz` in this round. "+
		"Each page was requested once before the measurement.", requestsOfPage)
}

// consoleWith measures the pages at one size.
func (b *bench) consoleWith(ctx context.Context, data string, g *grown, full bool, pages []Page) error {
	work, err := linkedCopy(data, filepath.Join(b.work, "console"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	s := &grownServer{b: b, g: g, data: work}
	if _, err := s.start(ctx); err != nil {
		return err
	}
	defer s.stop()
	fill, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	cookie, err := s.signIn(ctx)
	if err != nil {
		return err
	}
	paths := make([]string, len(pages))
	open := 0
	for i := range pages {
		paths[i] = fill.Replace(pages[i].Path)
		if err := s.waitForPage(ctx, paths[i], cookie); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			pages[i].Why = fmt.Sprintf("with %s: %s", column(full), oneLine(err.Error()))
			continue
		}
		open++
	}
	b.check("With %s of the data, %d of %d requested pages answer 200 and are pages of the console.", column(full), open, len(pages))
	for range b.rounds {
		times, anchors := make([]float64, len(pages)), []float64{}
		for i := range pages {
			if pages[i].Why != "" {
				continue
			}
			anchor, err := s.processorTime(ctx, "/healthz", nil)
			if err != nil {
				return err
			}
			anchors = append(anchors, anchor)
			if times[i], err = s.processorTime(ctx, paths[i], cookie); err != nil {
				return err
			}
		}
		for i, time := range times {
			if ratio := time / quantile(anchors, 0.5); pages[i].Why == "" && full {
				pages[i].Whole = append(pages[i].Whole, ratio)
			} else if pages[i].Why == "" {
				pages[i].Small = append(pages[i].Small, ratio)
			}
		}
	}
	return s.checkAlive()
}

// processorTime returns the mean processor time that the server spends on a request of path, in seconds.
func (s *grownServer) processorTime(ctx context.Context, path string, cookie *http.Cookie) (float64, error) {
	began, err := cpu(s.pid())
	if err != nil {
		return 0, err
	}
	for range requestsOfPage {
		if _, err := s.page(ctx, path, cookie); err != nil {
			return 0, err
		}
	}
	after, err := cpu(s.pid())
	return (after - began).Seconds() / requestsOfPage, err
}

// page returns the response body of a GET request.
func (s *grownServer) page(ctx context.Context, path string, cookie *http.Cookie) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/html")
	if cookie != nil {
		req.AddCookie(cookie)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, res.Status)
	}
	return text, err
}

// waitForPage polls until path returns a page of the console, because a new call appears in the list with a delay.
func (s *grownServer) waitForPage(ctx context.Context, path string, cookie *http.Cookie) error {
	var failed error
	late := s.waitUntil(ctx, path, 20*time.Second, 100*time.Millisecond, func() bool {
		var text []byte
		if text, failed = s.page(ctx, path, cookie); failed == nil && !bytes.Contains(text, []byte(`data-page="`)) {
			failed = fmt.Errorf("GET %s: the response is not a page of the console", path)
		}
		return failed == nil
	})
	return cmp.Or(failed, late)
}

// signIn signs in with the admin token through the login form and returns the session cookie.
func (s *grownServer) signIn(ctx context.Context) (*http.Cookie, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/console/login",
		strings.NewReader(url.Values{"password": {adminToken}}.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	if i := slices.IndexFunc(res.Cookies(), func(c *http.Cookie) bool { return strings.Contains(c.Name, "session") }); i >= 0 {
		return res.Cookies()[i], nil
	}
	return nil, fmt.Errorf("POST /console/login: %s without a session cookie", res.Status)
}

var ridPattern = regexp.MustCompile(`rid: ([0-9a-f-]+)`)

// prepare creates the objects that pages show and the data folder lacks, and returns a replacer for the placeholders.
func (s *grownServer) prepare(ctx context.Context) (*strings.Replacer, error) {
	batch := s.g.Made[len(s.g.Made)/2].ID
	var pack struct{ Package int64 }
	if err := s.admin(ctx, http.MethodPost, fmt.Sprintf("/batches/%d/packages", batch),
		`{"code_start":9000,"code_end":9999,"printer":"Press"}`, &pack); err != nil {
		return nil, err
	}
	err := s.admin(ctx, http.MethodPut, "/components/plat",
		`{"secret":"0123456789abcdef0123456789abcdef","message_token":"tok",`+
			`"encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`, nil)
	if err != nil {
		return nil, err
	}
	// A production server logs only calls of known accounts: call with a valid token for an application that does not exist.
	token, err := s.token(ctx)
	if err != nil {
		return nil, err
	}
	var refused struct{ Errmsg string }
	err = call(ctx, http.MethodPost, s.url+"/intp/marketcode/applycodequery?access_token="+token, "", `{"application_id":1}`, &refused)
	if err != nil {
		return nil, err
	}
	rid := ridPattern.FindStringSubmatch(refused.Errmsg)
	if rid == nil {
		return nil, fmt.Errorf("applycodequery of an unknown application returned %q, want a request id", refused.Errmsg)
	}
	return strings.NewReplacer("RID", rid[1], "LINK", url.QueryEscape(s.g.Scanned[0].Text), "OWNER", s.g.ownerOf(s.g.Rules/2),
		"PREFIX", url.QueryEscape(s.prefix()), "BATCH", strconv.FormatInt(batch, 10), "PACKAGE", strconv.FormatInt(pack.Package, 10),
		"SCAN", s.g.Middle, "BEGAN", s.ago(s.g.Days), "ENDED", s.g.Now.Format(time.DateOnly)), nil
}

// pagesTable writes the table of page costs.
func pagesTable(page *strings.Builder, pages []Page) {
	if len(pages) == 0 {
		return
	}
	fmt.Fprint(page, "The table shows the processor time of each page divided by that of `/healthz` on the same server, as medians over "+
		"the rounds.\n"+
		"*Growth* is the ratio with the whole data divided by the ratio with a hundredth of the data.\n"+
		"A growth of 1 means that the page takes as long with a hundred times as much data.\n\n"+
		"| page | a hundredth | the whole | growth |\n| --- | --: | --: | --: |\n")
	for _, p := range pages {
		if p.Why == "" {
			fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", cell(p.Path), number(quantile(p.Small, 0.5)), number(quantile(p.Whole, 0.5)),
				number(p.growth()))
		}
	}
	fmt.Fprintln(page)
}
