// Package landing is what a browser sees of a printed code: the page of a Mini Program, the
// authenticity page of a code, and the two files by which an operator's own app opens links. It
// knows HTML and redirects; what a text opens is decided in scan. A page that a browser opens is no
// scan: it is counted apart and changes nothing.
package landing

import (
	"cmp"
	"context"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
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

// TryPath is the path at which --dev shows the page of any link: /p/?u=LINK.
const TryPath = "/p/"

// Gateway serves the pages. First, Checks, Copied and Redeemed may be nil.
type Gateway struct {
	// Resolve decides a text and has no effect.
	Resolve func(scan.Request) scan.Decision
	Account func(appid string) (accounts.Account, bool)
	// Prefixes returns the prefixes of all code texts that were ever printed.
	Prefixes func() []string
	// Links returns the patterns of texts by template that are links; nil = there are none.
	Links func() []codes.Link
	// Rules are the rules of a host in lower case, with its port if it has one.
	Rules Hosts
	// APIPaths are the paths of the API. Their first segments stay the API's
	// under every host, unless the operator named the API's hosts.
	APIPaths []string
	// APIPages are single pages of the API. Like APIPaths they stay the API's under every host;
	// paths beside or below them do not.
	APIPages []string
	// Looks holds the branding of accounts; nil = none.
	Looks    *branding.Book
	Settings *settings.Live
	Now      func() time.Time
	// RealNow is the clock of the limits.
	RealNow  func() time.Time
	ClientIP func(*http.Request) netip.Addr
	// Scheme returns the scheme of the request: http or https.
	Scheme func(*http.Request) string
	// First returns the time of a code's first scan; ok is false for never.
	First func(ctx context.Context, batch, index int64) (at time.Time, ok bool, err error)
	// Checks returns the number of a code's scans.
	Checks func(ctx context.Context, batch, index int64) (int64, error)
	// Copied reports whether a code ever raised an alarm for looking copied.
	Copied func(ctx context.Context, batch, index int64) (bool, error)
	// Redeemed returns the time at which a code was redeemed first; it is called for redeemed ones only.
	Redeemed func(ctx context.Context, batch, index int64) (time.Time, error)
	// Observe is called for every page that was shown.
	Observe func(Page)
	Log     *slog.Logger

	hosts  hostCache
	links  linksCache
	limits limits
	// drawing bounds how many pictures are drawn at once: scans must not wait for pictures.
	drawing semaphore.Semaphore
	// draw makes the picture of a link; nil = symbol.ForScreen.
	draw func(text string) (string, error)
}

// Page is a kind of page, for counting.
type Page string

// The kinds of page.
const (
	LandingPage  Page = "landing"
	RedirectPage Page = "redirect"
	CodePage     Page = "code"
	MissingPage  Page = "not_found"
	LimitedPage  Page = "limited"
	RefusedPage  Page = "refused" // a method or a length that no page has
	AwayPage     Page = "away"    // the store does not answer
	LinksFile    Page = "app_links"
	LogoFile     Page = "logo"
)

// Middleware serves requests for pages and files of this package, and leaves every other to the API.
func (g *Gateway) Middleware(next http.Handler) http.Handler {
	family := map[string]bool{}
	for _, path := range g.APIPaths {
		family[firstSegment(path)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if hash, is := branding.HashOfPath(r.URL.Path); is && reads && g.Looks != nil {
			g.logo(w, r, hash)
			return
		}
		host, ok := pageHost(r.Host, g.scheme(r))
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
		case family[firstSegment(r.URL.Path)], slices.Contains(g.APIPages, r.URL.Path), !reads:
			next.ServeHTTP(w, r)
		default:
			g.serve(w, r, host, next)
		}
	})
}

func firstSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}

func (g *Gateway) scheme(r *http.Request) string {
	if g.Scheme != nil {
		return g.Scheme(r)
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// serve answers a request under a host. unknown answers where no rule and no printed code has the
// host; nil = the page that says so.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, host string, unknown http.Handler) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		g.refused(w, r, http.StatusMethodNotAllowed)
		return
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // a request through a proxy names the host in its line
		target = r.URL.RequestURI()
	}
	text := g.scheme(r) + "://" + host + target
	var d scan.Decision
	if len(text) <= rules.MaxLink {
		d = g.Resolve(scan.Request{Text: text, At: g.Now()})
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
	if file := r.URL.Path; file == applePath || file == androidPath {
		g.serveLinks(w, r, host, file)
		return
	}
	if len(text) > rules.MaxLink {
		g.refused(w, r, http.StatusRequestURITooLong)
		return
	}
	g.answer(w, r, text, d)
}

// Try shows the page of the link in the parameter u, for trying without a host
// that points here.
func (g *Gateway) Try() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			g.refused(w, r, http.StatusMethodNotAllowed)
			return
		}
		text := r.URL.Query().Get("u")
		g.answer(w, r, text, g.Resolve(scan.Request{Text: text, At: g.Now()}))
	})
}

// opens reports whether a rule governs the link and opens a Mini Program.
func opens(d scan.Decision) bool {
	return d.Action == scan.OpenMiniProgram && (d.Kind == scan.ByRule || d.Kind == scan.ByService)
}

// isCode reports whether the text is a code text, known or not.
func isCode(d scan.Decision) bool {
	return d.Kind == scan.ByCode || d.Reason != "" || d.Code.Err != nil
}

// answer shows what a text opens.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, text string, d scan.Decision) {
	perMinute := g.Settings.Get().LandingPageRateLimit
	if opens(d) {
		// The page of a link is no secret, but drawing its code takes time, and more for a longer
		// link.
		if !g.withinLimit(w, r, "landing", (len(text)+lengthOfOne-1)/lengthOfOne, perMinute*landingsPerCode) {
			return
		}
		g.landing(w, r, text, d)
		return
	}
	// A made-up code and any other text get the same page at the same price, so that trying codes
	// one after the other tells nothing.
	if !g.withinLimit(w, r, "code", 1, perMinute) {
		return
	}
	if d.Code.Err != nil { // the store did not answer: it may be a code or not
		g.Log.ErrorContext(r.Context(), "whether a text is a code made elsewhere cannot be read", "error", d.Code.Err)
		g.serveUnavailable(w, r)
		return
	}
	if isCode(d) && d.Code.Batch.ID != 0 && d.Reason != codes.SerialOnly {
		g.code(w, r, text, d.Code)
		return
	}
	g.show(w, r, MissingPage, http.StatusNotFound, notice("missing"))
}

// landingsPerCode is the number of pages of Mini Programs that an address may see in place of one page of a code: they tell less,
// and many phones share an address.
const landingsPerCode = 10

// lengthOfOne is the number of bytes of a link that cost one page of a Mini Program: a link of twice as many costs two.
const lengthOfOne = 100

// withinLimit charges the caller's address so many pages. Where it asked too often, it shows the
// page that asks for patience and reports false.
func (g *Gateway) withinLimit(w http.ResponseWriter, r *http.Request, kind string, pages, perMinute int) bool {
	wait := g.limits.draw(kind, g.ClientIP(r), pages, perMinute, g.RealNow())
	if wait == 0 {
		return true
	}
	w.Header().Set("Retry-After", seconds(wait))
	g.show(w, r, LimitedPage, http.StatusTooManyRequests, notice("limited"))
	return false
}

// landing shows how to get into the Mini Program, or sends the browser there where its operator chose so.
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
	v.Open = template.URL(address) // of an app's scheme, see accounts.Account.ValidURLScheme
	if len(text) <= symbol.MostOnScreen {
		done, err := g.drawing.Acquire(r.Context(), mostDrawing, 0)
		if err != nil {
			return // the caller went away
		}
		v.QR = g.picture(text, done)
	}
	g.show(w, r, LandingPage, http.StatusOK, v)
}

// mostDrawing is the maximum number of pictures that are drawn at once.
const mostDrawing = 2

// picture draws the code of a text and gives back the caller's turn; "" = no code holds the text.
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

// code shows what is known of a code.
func (g *Gateway) code(w http.ResponseWriter, r *http.Request, text string, s codes.Scanned) {
	v := view{Kind: "code", Key: stateOf(s)}
	g.dress(r, &v, s.Batch.Account)
	if v.Ends = codes.Suffix(text, g.Prefixes(), shownSymbols); s.Batch.Template != "" {
		v.Ends = s.Batch.TextEnding(text, shownSymbols)
	}
	if a := s.State.Activation; a != nil && v.Key == "active" {
		v.Brand, v.Product = a.Binding.ProductBrand, a.Binding.ProductTitle
	}
	// A code that was taken back may be a copied one: so its page shows how often it was checked,
	// whatever its state.
	v.Checked = g.checked(r.Context(), s)
	if v.Key = v.Checked.doubt(v.Key); v.Key == "active" && s.Batch.Weak() {
		v.Key = "weak" // a person who guesses such a text would be told that it is genuine
	}
	g.show(w, r, CodePage, http.StatusOK, v)
}

// shownSymbols is the number of characters of a code text that a page shows: enough to compare with the print, too few to print
// another.
const shownSymbols = 4

// checked is the state of a code's scans and alarms.
type checked struct {
	Known  bool // false: how often it was checked cannot be told at this moment
	First  time.Time
	Times  int64
	Copied bool // it raised an alarm for looking copied
	// Redeemed says that the code was redeemed, at RedeemedAt; a zero time = it cannot be told at
	// this moment.
	Redeemed   bool
	RedeemedAt time.Time
}

// doubt returns the state of a code's page: only an active code that raised no alarm
// and was never redeemed is called genuine.
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

// lookTime is the time that a page waits for the number of a code's checks; tests wait longer.
var lookTime = 2 * time.Second

func (g *Gateway) checked(ctx context.Context, s codes.Scanned) checked {
	c := checked{Redeemed: s.State.Redeemed}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	batch, index, zone := s.Batch.ID, s.Index, g.Settings.Get().Zone()
	// What warns a buyer is asked first, and the slowest question last.
	if g.First != nil && g.Checks != nil && g.Copied != nil {
		if err := g.count(ctx, &c, batch, index, zone); err != nil {
			g.Log.WarnContext(ctx, "a page could not tell how often a code was checked; it says so", "batch", batch, "index", index,
				"error", err)
		}
	}
	if c.Redeemed && g.Redeemed != nil {
		t, err := g.Redeemed(ctx, batch, index)
		if err != nil {
			g.Log.WarnContext(ctx, "a page could not tell when a code was redeemed; it says so", "batch", batch, "index", index, "error",
				err)
		} else if !t.IsZero() {
			c.RedeemedAt = t.In(zone)
		}
	}
	return c
}

// count asks for alarms, and then how often a code was checked.
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
		// Scans are counted a moment after they happened.
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
	return "active" // also where its Mini Program has no release: the code is genuine
}

func (g *Gateway) observe(p Page) {
	if g.Observe != nil {
		g.Observe(p)
	}
}

func (g *Gateway) printedLinks() []codes.Link {
	if g.Links == nil {
		return nil
	}
	return g.Links()
}

// prefixHosts returns the hosts of printed codes, in lower case.
func (g *Gateway) prefixHosts() []string {
	var hosts []string
	for _, prefix := range g.Prefixes() {
		lower := strings.ToLower(prefix) // CheckPrefix: ASCII only
		lower = strings.TrimPrefix(strings.TrimPrefix(lower, "https://"), "http://")
		host, _, _ := strings.Cut(lower, "/")
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	for _, l := range g.printedLinks() {
		if !slices.Contains(hosts, l.Host) {
			hosts = append(hosts, l.Host)
		}
	}
	return hosts
}
