// Package landing serves the pages that a browser shows for a printed code: the page of a Mini Program, the authenticity page of a code,
// and the two app link files, with which phones open links in the operator's own app. The package handles HTML and redirects; package scan
// decides the target of a text. A page view in a browser does not count as a scan: page views are counted separately and change nothing.
package landing

import (
	"cmp"
	"context"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// TryPath is the path at which a server with --dev shows the page of any link: /p/?u=LINK.
const TryPath = "/p/"

// Gateway serves the landing pages. The fields First, Checks, Copied and Redeemed may be nil.
type Gateway struct {
	// Resolve returns the decision for a text without side effects.
	Resolve func(scan.Request) scan.Decision
	Account func(appid string) (accounts.Account, bool)
	// Prefixes returns the prefixes of all code texts printed so far.
	Prefixes func() []string
	// Links returns the patterns of the code texts that are links made from a template.
	Links func() []codes.Link
	// LinkHost reports whether a Host header names a host of GS1 links.
	LinkHost func(header, scheme string) bool
	// Rules returns the rules of a host, given in lower case with its port if any.
	Rules Hosts
	// APIPaths lists the URL paths of the API. Paths with the same first segment as one of APIPaths belong to the API under every host,
	// unless the operator configured the API's hosts.
	APIPaths []string
	// APIPages lists single pages of the API. Like APIPaths, the paths in APIPages belong to the API under every host, but paths
	// next to or below these pages do not.
	APIPages []string
	// Looks provides the branding of accounts; nil = none.
	Looks    *branding.Service
	Settings *settings.Live
	Now      func() time.Time
	// RealNow is the clock for rate limits.
	RealNow  func() time.Time
	ClientIP func(*http.Request) netip.Addr
	// Scheme returns the scheme of a request: http or https.
	Scheme func(*http.Request) string
	// First returns the time of a code's first scan; ok is false if the code was never scanned.
	First func(ctx context.Context, batch, index int64) (at time.Time, ok bool, err error)
	// Checks returns how often a code was scanned.
	Checks func(ctx context.Context, batch, index int64) (int64, error)
	// Copied reports whether a code ever raised an alarm as a suspected copy.
	Copied func(ctx context.Context, batch, index int64) (bool, error)
	// Redeemed returns the time at which a code was first redeemed; it is called only for redeemed codes.
	Redeemed func(ctx context.Context, batch, index int64) (time.Time, error)
	// CheckPIN compares a PIN that a buyer typed into the page of a code; "" = only reports whether the code still accepts a PIN.
	CheckPIN func(ctx context.Context, b codes.Batch, index int64, typed string) (codes.PINResult, error)
	// Observe is called for every page that is shown.
	Observe func(Page)
	Log     *slog.Logger

	hosts  hostCache
	links  linksCache
	limits limits
	// drawing limits how many pictures are drawn concurrently, so that scans do not wait for pictures.
	drawing semaphore.Semaphore
	// draw renders the QR code of a link; nil = symbol.ForScreen.
	draw func(text string) (string, error)
}

// Page is a kind of page, for metrics.
type Page string

// The kinds of page.
const (
	LandingPage  Page = "landing"
	RedirectPage Page = "redirect"
	CodePage     Page = "code"
	MissingPage  Page = "not_found"
	LimitedPage  Page = "limited"
	RefusedPage  Page = "refused" // a method or URL length that no page accepts
	AwayPage     Page = "away"    // the database is unavailable
	LinksFile    Page = "app_links"
	LogoFile     Page = "logo"
)

// Middleware serves requests for the pages and files of this package, and passes all others to the API.
func (g *Gateway) Middleware(next http.Handler) http.Handler {
	family := map[string]bool{}
	for _, path := range g.APIPaths {
		family[FirstSegment(path)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if hash, is := branding.HashOfPath(r.URL.Path); is && reads && g.Looks != nil {
			g.logo(w, r, hash)
			return
		}
		host, ok := pageHost(r.Host, g.Scheme(r))
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		named := g.Settings.Get().APIHosts
		switch {
		case named.Has(host):
			next.ServeHTTP(w, r)
		case len(named) > 0:
			g.serve(w, r, host, nil)
		case family[FirstSegment(r.URL.Path)], slices.Contains(g.APIPages, r.URL.Path), !reads && !g.takesPIN(r, host):
			next.ServeHTTP(w, r)
		default:
			g.serve(w, r, host, next)
		}
	})
}

// FirstSegment returns the path up to its second slash, without slashes.
func FirstSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}

// decide returns the link of a request and the decision for the link; the decision is empty if the link is too long. If the link of a code
// has characters that a browser escapes, such as Chinese characters or spaces, decide returns the link as printed.
func (g *Gateway) decide(r *http.Request, host string) (text string, d scan.Decision) {
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // a request through a proxy contains the host in its request line
		target = r.URL.RequestURI()
	}
	text = g.Scheme(r) + "://" + host + target
	if len(text) <= rules.MaxLink {
		d = g.Resolve(scan.Request{Text: text, At: g.Now()})
	}
	if plain, err := url.PathUnescape(text); err == nil && plain != text && d.Action == scan.OpenURL && d.Kind == "" {
		if printed := g.Resolve(scan.Request{Text: plain, At: g.Now()}); isCode(printed) {
			return plain, printed
		}
	}
	return text, d
}

// takesPIN reports whether a request posts the form on the page of a code with a PIN.
func (g *Gateway) takesPIN(r *http.Request, host string) bool {
	if r.Method != http.MethodPost {
		return false
	}
	_, d := g.decide(r, host)
	return d.Code.Batch.PINDigits() > 0
}

// accepts shows the error page and returns false if the page of the decision d does not take the method of a request.
func (g *Gateway) accepts(w http.ResponseWriter, r *http.Request, d scan.Decision) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodPost && d.Code.Batch.PINDigits() > 0 {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	g.refused(w, r, http.StatusMethodNotAllowed)
	return false
}

// serve responds to a request for a host; for a host without rules and codes it calls the handler unknown; nil = an error page.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, host string, unknown http.Handler) {
	text, d := g.decide(r, host)
	if !g.accepts(w, r, d) {
		return
	}
	if unknown != nil && !opens(d) && !isCode(d) {
		known, answered := g.known(w, r, host)
		if !known && !answered {
			unknown.ServeHTTP(w, r)
		}
		if !known {
			return
		}
	}
	if file := r.URL.Path; IsLinksFile(file) {
		g.serveLinks(w, r, host, file)
		return
	}
	if len(text) > rules.MaxLink {
		g.refused(w, r, http.StatusRequestURITooLong)
		return
	}
	g.answer(w, r, text, d)
}

// Preview shows the page of the link in parameter u, for tests without a host that points to this server.
func (g *Gateway) Preview() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.URL.Query().Get("u")
		if d := g.Resolve(scan.Request{Text: text, At: g.Now()}); g.accepts(w, r, d) {
			g.answer(w, r, text, d)
		}
	})
}

// opens reports whether a rule matches the link and opens a Mini Program.
func opens(d scan.Decision) bool {
	return d.Action == scan.OpenMiniProgram && (d.Kind == scan.ByRule || d.Kind == scan.ByService)
}

// isCode reports whether the text is a code text, whether or not the code exists.
func isCode(d scan.Decision) bool {
	return d.Kind == scan.ByCode || d.Reason != "" || d.Code.Err != nil
}

// answer shows the page of a text, according to the decision d.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, text string, d scan.Decision) {
	if opens(d) {
		// The page of a link is public, but drawing its QR code takes time, which grows with the length of the link.
		if !g.withinLimit(w, r, "landing", (len(text)+lengthOfOne-1)/lengthOfOne, landingsPerCode) {
			return
		}
		g.landing(w, r, text, d)
		return
	}
	// An invented code and any other text get the same page at the same rate limit cost, so that enumerating codes reveals nothing.
	if !g.withinLimit(w, r, "code", 1, 1) {
		return
	}
	if d.Code.Err != nil { // the database did not respond, so whether the text is a code is unknown
		g.Log.ErrorContext(r.Context(), "lookup of an imported code failed", "error", d.Code.Err)
		g.serveUnavailable(w, r)
		return
	}
	if isCode(d) && d.Code.Batch.ID != 0 && (d.Reason != codes.SerialOnly || d.Code.Batch.HasPublicTexts()) {
		g.code(w, r, text, d.Code)
		return
	}
	g.show(w, r, MissingPage, http.StatusNotFound, notice("missing"))
}

// landingsPerCode is the rate limit of Mini Program pages divided by that of code pages, both per client address: Mini Program pages reveal
// less, and many phones share an address.
const landingsPerCode = 10

// lengthOfOne is the length in bytes up to which the page of a link counts as one Mini Program page in the rate limit: the page of a link
// of twice this length counts as two.
const lengthOfOne = 100

// withinLimit counts pages against the rate limit of the client's address; the limit is the setting LandingPageRateLimit times factor. If
// the limit is exceeded, withinLimit shows the rate limit page and returns false.
func (g *Gateway) withinLimit(w http.ResponseWriter, r *http.Request, kind string, pages, factor int) bool {
	limit := g.Settings.Get().LandingPageRateLimit
	if limit == settings.Unlimited {
		return true
	}
	wait := g.limits.draw(kind, g.ClientIP(r), pages, int(limit)*factor, g.RealNow())
	if wait == 0 {
		return true
	}
	w.Header().Set("Retry-After", seconds(wait))
	g.show(w, r, LimitedPage, http.StatusTooManyRequests, notice("limited"))
	return false
}

// landing shows how to open the Mini Program, or redirects the browser to the app if the operator chose so.
func (g *Gateway) landing(w http.ResponseWriter, r *http.Request, text string, d scan.Decision) {
	app, _ := g.Account(d.AppID)
	v := view{Kind: "landing", App: cmp.Or(app.Name, d.AppID), Link: text}
	g.dress(r, &v, d.AppID)
	address, ok := app.LaunchAddress(d.Path)
	if ok && v.Look.OpenAtOnce {
		g.observe(RedirectPage)
		h := w.Header()
		guardHeaders(h)
		h.Set("Location", address)
		w.WriteHeader(http.StatusFound)
		return
	}
	v.Open = template.URL(address) // the scheme of an app was validated by accounts.Account.ValidURLScheme
	if len(text) <= symbol.MaxScreenPixels {
		done, err := g.drawing.Acquire(r.Context(), maxDrawings, 0)
		if err != nil {
			return // the client disconnected
		}
		v.QR = g.picture(text, done)
	}
	g.show(w, r, LandingPage, http.StatusOK, v)
}

// maxDrawings is the maximum number of pictures that are drawn concurrently.
const maxDrawings = 2

// picture returns the QR code of a text and releases the caller's semaphore slot; "" = the text is too long for a code.
func (g *Gateway) picture(text string, done func()) template.URL {
	defer done()
	draw := g.draw
	if draw == nil {
		draw = symbol.ForScreen
	}
	picture, err := draw(text)
	if err != nil {
		return ""
	}
	return template.URL(picture)
}

// code shows the authenticity page of a code.
func (g *Gateway) code(w http.ResponseWriter, r *http.Request, text string, s codes.Scanned) {
	v := view{Kind: "code", Key: stateOf(s)}
	g.dress(r, &v, s.Batch.Account)
	v.Ends = codes.Suffix(text, g.Prefixes(), shownSymbols)
	if s.Batch.Template != "" {
		v.Ends = s.Batch.TextEnding(text, shownSymbols)
	}
	if a := s.State.Activation; a != nil && v.Key == "active" {
		v.Brand, v.Product = a.Binding.ProductBrand, a.Binding.ProductTitle
	}
	// A deactivated code may have been copied, so its page shows the number of checks in every state.
	v.Checked, v.Uncounted = g.checked(r.Context(), s), s.Batch.HasPublicTexts()
	if v.Key = v.Checked.doubt(v.Key); v.Key == "active" {
		switch v.PIN = s.Batch.PINDigits(); {
		case v.PIN > 0:
			if v.Key = g.checkPIN(w, r, s); v.Key == "" {
				return
			}
		case s.Batch.Weak():
			v.Key = "weak" // the text of a weak code can be guessed, so the page must not call the code genuine
		}
	}
	g.show(w, r, CodePage, http.StatusOK, v)
}

// checkPIN returns the key of the page of an active code with a PIN: only the right PIN shows that the code is genuine. If the database is
// unavailable, checkPIN shows the error page and returns "".
func (g *Gateway) checkPIN(w http.ResponseWriter, r *http.Request, s codes.Scanned) (key string) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
	result, err := g.CheckPIN(r.Context(), s.Batch, s.Index, r.PostFormValue("pin"))
	if err != nil {
		g.Log.ErrorContext(r.Context(), "PIN check failed", "batch", s.Batch.ID, "index", s.Index, "error", err)
		g.serveUnavailable(w, r)
		return ""
	}
	return map[codes.PINResult]string{codes.RightPIN: "active", codes.WrongPIN: "wrong_pin", codes.NoPIN: "pin",
		codes.PINExhausted: "no_pin"}[result]
}

// shownSymbols is the number of characters of a code text that a page shows: enough to compare with the print, too few to reproduce
// the code.
const shownSymbols = 4

// checked contains the number of checks, the alarm state and the redemption of a code.
type checked struct {
	Known  bool // false: the number of checks is unavailable at the moment
	First  time.Time
	Times  int64
	Copied bool // the code raised an alarm as a suspected copy
	// Redeemed reports whether the code was redeemed. RedeemedAt is the time of the redemption, or zero if the database could not be read.
	Redeemed   bool
	RedeemedAt time.Time
}

// doubt returns the state shown on a code's page: only an active code without an alarm and without a redemption is called genuine.
func (c checked) doubt(state string) string {
	switch {
	case state != "active":
		return state
	case c.Copied:
		return "copied"
	case c.Redeemed:
		return "redeemed"
	case !c.Known:
		return "unsure"
	}
	return state
}

// lookTime is how long a page waits for the number of a code's checks; tests wait longer.
var lookTime = 2 * time.Second

func (g *Gateway) checked(ctx context.Context, s codes.Scanned) checked {
	c := checked{Redeemed: s.State.Redeemed}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	batch, index, zone := s.Batch.ID, s.Index, g.Settings.Get().Zone()
	// The queries whose results may warn a buyer run first; the slowest query runs last.
	if g.First != nil && g.Checks != nil && g.Copied != nil {
		if err := g.count(ctx, &c, batch, index, zone); err != nil {
			g.Log.WarnContext(ctx, "number of checks of a code not readable; the page says so", "batch", batch, "index", index,
				"error", err)
		}
	}
	if c.Redeemed && g.Redeemed != nil {
		t, err := g.Redeemed(ctx, batch, index)
		if err != nil {
			g.Log.WarnContext(ctx, "redemption time of a code not readable; the page says so", "batch", batch, "index", index, "error",
				err)
		} else if !t.IsZero() {
			c.RedeemedAt = t.In(zone)
		}
	}
	return c
}

// count reads whether the code raised alarms, and then the number of its checks.
func (g *Gateway) count(ctx context.Context, c *checked, batch, index int64, zone *time.Location) (err error) {
	if c.Copied, err = g.Copied(ctx, batch, index); err != nil {
		return err
	}
	first, ok, err := g.First(ctx, batch, index)
	if err != nil {
		return err
	}
	times, err := g.Checks(ctx, batch, index)
	if err != nil {
		return err
	}
	c.Known, c.Times = true, times
	if ok {
		// Scans are counted with a short delay, so at least one check is shown.
		c.First, c.Times = first.In(zone), max(times, 1)
	}
	return nil
}

func stateOf(s codes.Scanned) string {
	switch s.Reason {
	case codes.IsVoid:
		return "void"
	case codes.IsFrozen:
		return "frozen"
	case codes.NotActive:
		return "not_active"
	}
	return "active" // a code whose Mini Program has no release is genuine too
}

func (g *Gateway) observe(p Page) {
	if g.Observe != nil {
		g.Observe(p)
	}
}

// prefixHosts returns the hosts of printed codes in lower case.
func (g *Gateway) prefixHosts() []string {
	var hosts []string
	for _, prefix := range g.Prefixes() {
		host, _, _ := strings.Cut(withoutScheme(prefix), "/")
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	for _, l := range g.Links() {
		if !slices.Contains(hosts, l.Host) {
			hosts = append(hosts, l.Host)
		}
	}
	return hosts
}

// withoutScheme returns a prefix of code texts in lower case, without the scheme that it may have.
func withoutScheme(prefix string) string {
	return strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(prefix), "https://"), "http://") // CheckPrefix: ASCII only
}
