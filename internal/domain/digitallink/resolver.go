package digitallink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// Resolver is the HTTP handler for GS1 keys on the hosts of a Service. Resolver redirects only to links that are stored in the Service.
type Resolver struct {
	Service *Service
	// Scheme returns the URL scheme of the request: http or https.
	Scheme func(*http.Request) string
	// Reserved reports whether a path is reserved for this server on every host.
	Reserved func(path string) bool
	// Opens reports whether a rule or a code opens at an address. If Opens returns true and the key has no entry, the request is passed to
	// the handler of the browser pages.
	Opens func(text string) bool
	// Followed is called for each redirected request; may be nil.
	Followed func(*http.Request, Followed)
	// Page writes an HTML error page for the statuses 400, 404 and 410; if nil, browsers get JSON too.
	Page func(w http.ResponseWriter, q *http.Request, status int)
	// Observe is called with the status of each response.
	Observe func(status int)
}

// Followed describes the link that a client was redirected to.
type Followed struct {
	Key, Address string // as in Found
	Number       int64
	Type         string // type of the link
	Language     string // language of the link, or the client's first choice; "" = unknown
}

const (
	linksetType  = "application/linkset+json"
	jsonldRel    = "http://www.w3.org/ns/json-ld#context"
	linksetTerms = "https://ref.gs1.org/standards/resolver/linkset-context"
	wellKnown    = "/.well-known/gs1resolver"
	methods      = "GET, HEAD, OPTIONS"
)

// Middleware serves requests on the hosts with GS1 keys, and passes all other requests to next. For other hosts, use Orphan.
func (r *Resolver) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		host := r.Service.host(q.Host, r.Scheme(q))
		if host == "" || r.Reserved(q.URL.Path) {
			next.ServeHTTP(w, q)
			return
		}
		if a := (&answer{Resolver: r, w: w, q: q, base: r.Scheme(q) + "://" + host}); !a.serve() {
			next.ServeHTTP(w, q)
		}
	})
}

// Orphan is for hosts that are not among Hosts. Orphan responds 404 to a Digital Link, because a phone would show a 200 response of another
// API as the page of the product, and passes all other requests to next.
func (r *Resolver) Orphan(next http.Handler) http.Handler {
	keys := gs1.PrimaryKeys()
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		key, _, _ := strings.Cut(strings.TrimPrefix(q.URL.Path, "/"), "/")
		if !slices.Contains(keys, key) {
			next.ServeHTTP(w, q)
			return
		}
		a := &answer{Resolver: r, w: w, q: q}
		a.problem(http.StatusNotFound, fmt.Sprintf("%.100q is not among this server's gs1_hosts", q.Host))
	})
}

// host returns the host of a request as it appears in links, without the default port of its scheme. host returns "" if the request's host
// is not among Hosts. A host that Hosts contains without a port matches every port.
func (s *Service) host(header, scheme string) string {
	name := strings.ToLower(header)
	switch scheme {
	case "http":
		name = strings.TrimSuffix(name, ":80")
	case "https":
		name = strings.TrimSuffix(name, ":443")
	}
	bare, port, ported := strings.Cut(name, ":")
	if _, err := strconv.ParseUint(port, 10, 16); ported && err != nil {
		return ""
	}
	usual := map[string]string{"http": ":80", "https": ":443"}[scheme]
	for _, host := range s.Hosts() {
		if host == bare || host == name || !ported && host == name+usual {
			return name
		}
	}
	return ""
}

// HasHost reports whether the host of a request is among Hosts.
func (s *Service) HasHost(header, scheme string) bool { return s.host(header, scheme) != "" }

// parseOwn reports whether the host of an address is among Hosts, and returns the path and query of the address.
func (s *Service) parseOwn(text string) (path, query string, ok bool) {
	scheme, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 || rest[end] != '/' || s.host(rest[:end], strings.ToLower(scheme)) == "" {
		return "", "", false
	}
	rest, _, _ = strings.Cut(rest[end:], "#")
	path, query, _ = strings.Cut(rest, "?")
	return path, query, true
}

// answer is the state of one request that the resolver serves.
type answer struct {
	*Resolver
	w    http.ResponseWriter
	q    *http.Request
	base string // scheme and host
	id   identifier
}

// serve writes the response and returns true, or returns false if another handler must serve the request.
func (a *answer) serve() bool {
	path := rawPath(a.q)
	id, err := readPath(path, a.q.URL.RawQuery)
	var levels []*Entry
	var archived bool
	if err == nil {
		levels, archived = a.Service.levels(id.keys())
	}
	if len(levels) == 0 && path != wellKnown && a.Opens(a.base+a.q.URL.RequestURI()) {
		return false // the page of a rule or code also accepts POST, and a redirect to the 14 digits of the GTIN would change its text
	}
	h := a.w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Link, Location, Retry-After")
	h.Set("X-Content-Type-Options", "nosniff")
	switch a.q.Method {
	case http.MethodOptions:
		h.Set("Allow", methods)
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", "Accept, Accept-Language, Content-Type")
		h.Set("Access-Control-Max-Age", "86400")
		if err == nil { // the official GS1 test suite expects the Link header in the response to OPTIONS
			a.addLinksetHeader(id)
		}
		a.head(http.StatusNoContent)
		return true
	case http.MethodGet, http.MethodHead:
	default:
		h.Set("Allow", methods)
		a.problem(http.StatusMethodNotAllowed, "this host takes "+methods)
		return true
	}
	switch {
	case path == wellKnown:
		a.describe()
	case err != nil:
		a.problem(http.StatusBadRequest, err.Error())
	case id.Padded:
		h.Set("Location", appendQuery("/"+id.key(), a.q.URL.RawQuery))
		a.head(http.StatusTemporaryRedirect)
	default:
		a.id = id
		a.resolve(levels, archived)
	}
	return true
}

// rawPath returns the path exactly as received, because a serial number may be "." or "..", which a router would remove.
func rawPath(q *http.Request) string {
	raw, _, _ := strings.Cut(q.RequestURI, "?")
	if strings.HasPrefix(raw, "/") && (strings.Contains(raw+"/", "/./") || strings.Contains(raw+"/", "/../")) {
		return raw
	}
	return q.URL.EscapedPath()
}

// resolve serves a request for a key with the entries of the key and of the keys above it.
func (a *answer) resolve(levels []*Entry, archived bool) {
	if len(levels) == 0 {
		a.problem(http.StatusNotFound, "nothing is known of "+a.id.key())
		return
	}
	if archived {
		a.problem(http.StatusGone, a.id.key()+" is out of use")
		return
	}
	c := newCriteria(a.q.URL.RawQuery, a.q.Header, a.Service.Now())
	h := a.w.Header()
	h.Set("Vary", "Accept, Accept-Language")
	h.Set("Cache-Control", "no-store")
	a.addLinksetHeader(a.id)
	if c.kind == "linkset" || c.kind == "all" || wantsLinkset(parsePreferences(a.q.Header.Get("Accept"))) {
		a.linkset(http.StatusOK, levels, c.at, nil)
		return
	}
	if a.redirectToHandler(levels, c.at) {
		return
	}
	switch answers := c.choose(levels, a.id.Value); {
	case len(answers) == 1:
		a.reportFollowed(levels, answers[0], c.languages)
		a.w.Header().Set("Location", appendQuery(answers[0].address, a.q.URL.RawQuery))
		a.head(http.StatusTemporaryRedirect)
	case len(answers) > 1:
		a.linkset(http.StatusMultipleChoices, levels, c.at, answers)
	case c.kind == "":
		a.problem(http.StatusNotFound, "no link of "+a.id.key()+" is there now")
	default:
		a.problem(http.StatusNotFound, a.id.key()+" has no link of this type: ?linkType=linkset lists those that it has")
	}
}

func (a *answer) addLinksetHeader(id identifier) {
	a.w.Header().Add("Link", "<"+a.base+"/"+id.key()+`?linkType=linkset>; rel="linkset"; type="`+linksetType+`"; title="All links"`)
}

// wantsLinkset reports whether the Accept header contains the linkset type and no type with a higher priority.
func wantsLinkset(media []preference) bool {
	limit, local := 0.0, 0.0
	for _, choice := range media {
		limit = max(limit, choice.q)
		if choice.name == linksetType {
			local = choice.q
		}
	}
	return local > 0 && local >= limit
}

// isBrowser reports whether the Accept header contains HTML with the highest priority (q=1), as browsers send it.
func isBrowser(media []preference) bool {
	return slices.Contains(media, preference{name: "text/html", q: 1})
}

// redirectToHandler redirects a request to the resolver that serves the key in place of this server, if a handledBy link is active.
func (a *answer) redirectToHandler(levels []*Entry, t time.Time) bool {
	found, delegated := handler(levels, t, a.id)
	if !delegated {
		return false
	}
	a.w.Header().Set("Link", "<"+found.address+`>; rel="`+longType(HandledBy)+`"`)
	a.reportFollowed(levels, found, nil)
	a.w.Header().Set("Location", found.delegated(a.id, a.q.URL.RawQuery))
	a.head(http.StatusTemporaryRedirect)
	return true
}

// handler returns the nearest active handledBy link.
func handler(levels []*Entry, t time.Time, id identifier) (candidate, bool) {
	for _, e := range levels {
		for _, found := range e.activeLinks(t, id.Value) {
			if found.Type == HandledBy {
				return found, true
			}
		}
	}
	return candidate{}, false
}

// delegated returns the address of a key at the resolver of a handledBy link: the key follows the path of the link, before its query.
func (h candidate) delegated(id identifier, query string) string {
	root := h.address[:strings.IndexAny(h.address+"?", "?#")]
	return appendQuery(strings.TrimRight(root, "/")+"/"+id.key()+h.address[len(root):], query)
}

// reportFollowed reports a redirect to the Followed callback, except for a HEAD request or a browser's prefetch.
func (a *answer) reportFollowed(levels []*Entry, to candidate, languages []preference) {
	text := a.q.Header.Get("Sec-Purpose") + a.q.Header.Get("Purpose") + a.q.Header.Get("X-Moz")
	if a.Followed == nil || a.q.Method != http.MethodGet || strings.Contains(text, "pre") {
		return
	}
	f := Followed{Key: a.id.key(), Address: "https://id.gs1.org/" + a.id.key(), Number: levels[0].Number, Type: to.Type}
	switch {
	case len(to.Hreflang) > 0:
		f.Language = to.Hreflang[0]
	case len(languages) > 0 && language().MatchString(languages[0].name):
		f.Language = languages[0].name
	}
	a.Followed(a.q, f)
}

// head sends a response without a body.
func (a *answer) head(status int) {
	a.w.Header().Set("Content-Length", "0")
	a.send(status)
}

func (a *answer) send(status int) {
	if a.Observe != nil {
		a.Observe(status)
	}
	a.w.WriteHeader(status)
}

// write answers JSON.
func (a *answer) write(status int, kind string, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // cannot happen: v holds only strings and lists of strings
	}
	a.w.Header().Set("Content-Type", kind)
	a.send(status)
	if a.q.Method != http.MethodHead {
		_, _ = a.w.Write(append(text, '\n')) // an error means that the client closed the connection
	}
}

// problem sends an error response: an HTML page, or JSON as defined in RFC 9457.
func (a *answer) problem(status int, detail string) {
	a.w.Header().Set("Cache-Control", "no-store")
	a.w.Header().Set("Vary", "Accept, Accept-Language")
	if a.Page != nil && status != http.StatusMethodNotAllowed && isBrowser(parsePreferences(a.q.Header.Get("Accept"))) {
		if a.Observe != nil {
			a.Observe(status)
		}
		a.Page(a.w, a.q, status)
		return
	}
	a.write(status, "application/problem+json", map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

// target is the JSON form of a link in a linkset (RFC 9264).
type target struct {
	Href     string   `json:"href"`
	Title    string   `json:"title"`
	Type     string   `json:"type,omitempty"`
	Hreflang []string `json:"hreflang,omitempty"`
	Context  []string `json:"context,omitempty"`
}

// linkset sends the links of all levels; if hits is not nil, it sends only the links in hits. Each level has an item description, because
// GS1's schema requires it.
func (a *answer) linkset(status int, levels []*Entry, t time.Time, hits []candidate) {
	a.w.Header().Add("Link", "<"+linksetTerms+`>; rel="`+jsonldRel+`"; type="application/ld+json"`)
	sets := []map[string]any{}
	for _, e := range levels {
		set := map[string]any{"anchor": a.base + "/" + e.Key, "itemDescription": e.Key}
		candidates := e.activeLinks(t, a.id.Value)
		if i := slices.IndexFunc(candidates, func(h candidate) bool { return h.Default }); i >= 0 {
			set["itemDescription"] = candidates[i].Title
		}
		if hits != nil {
			candidates = slices.DeleteFunc(candidates, func(h candidate) bool {
				return !slices.ContainsFunc(hits, func(o candidate) bool { return o.Link == h.Link })
			})
		}
		addLinks(set, candidates)
		if len(candidates) > 0 {
			sets = append(sets, set)
		}
	}
	a.write(status, linksetType, map[string]any{"linkset": sets})
}

// addLinks adds each link under its type. The default link is also added as defaultLink, with the required fields only. If several links
// have the type of the default link, these links are also added as defaultLinkMulti, with all fields.
func addLinks(set map[string]any, candidates []candidate) {
	add := func(kind string, t target) {
		list, _ := set[kind].([]target)
		set[kind] = append(list, t)
	}
	defaultIndex := slices.IndexFunc(candidates, func(h candidate) bool { return h.Default })
	var sameType []candidate
	for _, found := range candidates {
		add(longType(found.Type), found.target())
		if defaultIndex >= 0 && found.Type == candidates[defaultIndex].Type {
			sameType = append(sameType, found)
		}
	}
	if defaultIndex < 0 {
		return
	}
	add(Voc+"defaultLink", target{Href: candidates[defaultIndex].address, Title: candidates[defaultIndex].Title})
	for _, found := range sameType {
		if len(sameType) > 1 {
			add(Voc+"defaultLinkMulti", found.target())
		}
	}
}

func (h candidate) target() target {
	t := target{Href: h.address, Title: h.Title, Type: h.Media, Context: h.Context}
	for _, tag := range h.Hreflang {
		if short := shortLanguage(tag); short != "" && !slices.Contains(t.Hreflang, short) {
			t.Hreflang = append(t.Hreflang, short)
		}
	}
	return t
}

// shortLanguage returns a language tag in the form of GS1's schema: a two-letter language, optionally with a two-letter region. A linkset
// cannot contain a language that has no two-letter code; for such a language, shortLanguage returns "".
func shortLanguage(tag string) string {
	parts := strings.Split(tag, "-")
	if len(parts[0]) != 2 {
		return ""
	}
	for _, region := range parts[1:] {
		if len(region) == 2 {
			return parts[0] + "-" + region
		}
	}
	return parts[0]
}

// describe sends the resolver description file.
func (a *answer) describe() {
	a.w.Header().Set("Cache-Control", "max-age=300")
	a.write(http.StatusOK, "application/json", map[string]any{
		"name": "qrjump", "resolverRoot": a.base, "supportedPrimaryKeys": gs1.PrimaryKeys(),
		"supportedLinkType":           []map[string]string{{"namespace": Voc, "prefix": curie}},
		"linkTypeDefaultCanBeLinkset": false,
		"jsonLdContextLocation":       linksetTerms,
		"contact":                     map[string]string{"fn": strings.TrimPrefix(strings.TrimPrefix(a.base, "https://"), "http://")},
	})
}
