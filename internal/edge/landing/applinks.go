package landing

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// The two app link files, one for iOS and one for Android, tell a phone which links of a host an app opens directly. In an app link file
// the first matching line decides. Of several rules the longest prefix decides, and an unpublished rule hides shorter rules of its owner.
// So every rule becomes one line, longest first; the line contains the result for links that match this rule but none with a longer prefix.
//
// The format of app link files cannot express schemes, fragments, "?" and "$(". The files apply to https, so only https rules count. Rules
// with "#" are omitted, and a fragment after a path is ignored. A "?" or "$(" in a rule becomes "any single character". Android matches
// query parameters only individually and in any order. A rule that neither iOS nor Android can express opens the app rather than the
// browser; the app then asks the server for the target, which may not exist.
const (
	applePath   = "/.well-known/apple-app-site-association"
	androidPath = "/.well-known/assetlinks.json"
	// maxLinks is the maximum size of an app link file in bytes, which is the limit of Apple's parser.
	maxLinks = 128 << 10
	// maxHostRules is the maximum number of rules of a host in an app link file.
	maxHostRules = 20_000
	// linksFresh is the time for which this server caches an app link file; linksAge is the time for which clients may cache it.
	linksFresh, linksAge = 10 * time.Second, 5 * time.Minute
)

// IsLinksFile reports whether path is the path of an app link file.
func IsLinksFile(path string) bool { return path == applePath || path == androidPath }

// component is one line of an app link file, in the format that iOS and Android share.
type component struct {
	Path          string `json:"/"`
	Query         any    `json:"?,omitempty"` // a pattern, or a map of patterns by parameter
	Exclude       bool   `json:"exclude,omitempty"`
	CaseSensitive *bool  `json:"caseSensitive,omitempty"`
}

// serveLinks serves one of the two app link files. The status is 404 if the operator has no app or no link of the host would open in the
// app, and 503 if the rules cannot be read: phones must not mistake an outage for an empty file.
func (g *Gateway) serveLinks(w http.ResponseWriter, r *http.Request, host, file string) {
	if !g.withinLimit(w, r, "landing", 1, landingsPerCode) {
		return
	}
	made, err := g.linksFile(r.Context(), host, file)
	if err != nil {
		g.Log.WarnContext(r.Context(), "app links file not created", "host", host, "file", file, "error", err)
	}
	if made.away {
		g.serveUnavailable(w, r)
		return
	}
	body := made.body
	if body == nil {
		g.show(w, r, MissingPage, http.StatusNotFound, notice("missing"))
		return
	}
	g.observe(LinksFile)
	sum := sha256.Sum256(body)
	h := w.Header()
	guardHeaders(h)
	h.Set("Cache-Control", "public, max-age="+seconds(linksAge))
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// linksCache caches the generated app link files briefly.
type linksCache struct {
	mu     sync.Mutex
	files  map[[2]string]madeFile
	making sync.Mutex // one file is generated at a time, because a host with many rules takes long
}

type madeFile struct {
	body []byte // nil = no file, or a file that phones would reject
	away bool   // the rules could not be read
	at   time.Time
}

// get returns a cached app link file and whether the file is still fresh.
func (c *linksCache) get(key [2]string, now time.Time) (have madeFile, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.files[key]
	age := now.Sub(have.at)
	return have, ok && age >= 0 && age < linksFresh
}

// linksFile returns an app link file for a host, from the cache if it is fresh. While the rules cannot be read, linksFile returns the
// previous file; a call that tried to read the rules also returns the error, for the log.
func (g *Gateway) linksFile(ctx context.Context, host, file string) (madeFile, error) {
	key := [2]string{host, file}
	if have, fresh := g.links.get(key, g.RealNow()); fresh {
		return have, nil
	}
	g.links.making.Lock()
	defer g.links.making.Unlock()
	now := g.RealNow()
	have, fresh := g.links.get(key, now)
	if fresh {
		return have, nil
	}
	body, err := g.makeLinks(ctx, host, file)
	if ctx.Err() != nil {
		return madeFile{away: true}, context.Cause(ctx) // the caller disconnected, so the error does not concern the file
	}
	made := madeFile{body: body, at: now}
	if _, isLong := errors.AsType[tooLong](err); err != nil && !isLong {
		made.body, made.away = have.body, have.body == nil
	}
	g.links.mu.Lock()
	defer g.links.mu.Unlock()
	if len(g.links.files) >= 256 || g.links.files == nil {
		g.links.files = map[[2]string]madeFile{}
	}
	g.links.files[key] = made
	return made, err
}

// tooLong is the error for a host whose links exceed the size of a file.
type tooLong string

func (t tooLong) Error() string { return string(t) }

func (g *Gateway) makeLinks(ctx context.Context, host, file string) ([]byte, error) {
	s := g.Settings.Get()
	if file == applePath && len(s.AppleAppIDs) == 0 || file == androidPath && len(s.AndroidApps) == 0 {
		return nil, nil
	}
	list, err := g.Rules.RulesOfHost(ctx, host, maxHostRules+1)
	if err != nil {
		return nil, err
	}
	if len(list) > maxHostRules {
		return nil, tooLong(fmt.Sprintf("the host has more than %d rules: use a separate host for the app", maxHostRules))
	}
	lines := g.components(host, list)
	if !slices.ContainsFunc(lines, func(c component) bool { return !c.Exclude }) {
		return nil, nil
	}
	var value any
	if file == applePath {
		type details struct {
			AppIDs     []string    `json:"appIDs"`
			Components []component `json:"components"`
		}
		value = map[string]any{"applinks": map[string]any{"details": []details{{s.AppleAppIDs, lines}}}}
	} else {
		const all = "delegate_permission/common.handle_all_urls"
		type statement struct {
			Relation   []string       `json:"relation"`
			Target     map[string]any `json:"target"`
			Extensions map[string]any `json:"relation_extensions"`
		}
		var statements []statement
		for _, app := range s.AndroidApps {
			statements = append(statements, statement{Relation: []string{all},
				Target: map[string]any{"namespace": "android_app", "package_name": app.Package,
					"sha256_cert_fingerprints": app.Fingerprints},
				Extensions: map[string]any{all: map[string]any{"dynamic_app_link_components": forAndroid(lines)}}})
		}
		value = statements
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	if b.Len() > maxLinks {
		return nil, tooLong(fmt.Sprintf("the file has %d bytes, but phones read at most %d: use a host with fewer rules for the app",
			b.Len(), maxLinks))
	}
	return b.Bytes(), nil
}

// components returns the lines of the app link file for a host's rules.
func (g *Gateway) components(host string, list []rules.Rule) []component {
	lines := g.codeLines(host)
	byKey := map[string]rules.Prefix{}
	for _, r := range list {
		if r.Prefix.Scheme == "https" && !strings.Contains(r.Prefix.Key, "#") {
			byKey[r.Prefix.Key] = r.Prefix
		}
	}
	sorted := slices.SortedFunc(maps.Values(byKey), func(a, b rules.Prefix) int {
		return cmp.Or(cmp.Compare(len(b.Key), len(a.Key)), cmp.Compare(a.Key, b.Key))
	})
	// All links with the same longest matching rule open the same target, so one sample link per rule is resolved.
	opened := map[string]bool{}
	for _, p := range sorted {
		opened[p.Key] = opens(g.Resolve(scan.Request{Text: sample(p), At: g.Now()}))
	}
	for _, p := range sorted {
		// A line with the same result as its parent rule is omitted.
		if next, ok := parentRule(byKey, p); opened[p.Key] == (ok && opened[next]) {
			continue
		}
		lines = append(lines, line(p, !opened[p.Key]))
	}
	return lines
}

// sample returns a link that matches the rule p but no rule with a longer prefix, if such a link exists: sample appends to the path a name
// that is too long for any rule.
func sample(p rules.Prefix) string {
	if p.Sub {
		return p.Key + strings.Repeat("-", rules.MaxPrefix)
	}
	return p.Key
}

// parentRule finds the rules that are shorter than p and match every link that p matches, and returns the key of the longest of them.
func parentRule(byKey map[string]rules.Prefix, p rules.Prefix) (key string, ok bool) {
	for n := len(p.Key) - 1; n > len(p.Origin()); n-- {
		if shorter, found := byKey[p.Key[:n]]; found && shorter.Matches(p.Link) {
			return shorter.Key, true
		}
	}
	return "", false
}

// line returns the line for a rule in the format of app link files.
func line(p rules.Prefix, exclude bool) component {
	c := component{Path: pattern(p.Path()), Exclude: exclude}
	if p.Sub {
		c.Path += "*"
	}
	if p.Query() != "" {
		c.Query = pattern(p.Query()) + "*"
	}
	return c
}

// pattern returns a pattern that matches the text. No rule contains a "*", so the text needs no escape for "*". The format of app
// link files has no escape for "$(", so the "$" is replaced with "any single character", a close match.
func pattern(text string) string { return strings.ReplaceAll(text, "$(", "?(") }

// codeLines returns the lines of the app link file for the code texts of a host; nil = the host has no code texts. The lines match code
// links in upper or lower case, valid or not, because the app itself reports an invalid code.
func (g *Gateway) codeLines(host string) (lines []component) {
	for _, prefix := range g.Prefixes() {
		if name, path, _ := strings.Cut(withoutScheme(prefix), "/"); name == host {
			lines = append(lines, component{Path: strings.ReplaceAll("/"+path, "*", "?") + strings.Repeat("?", codes.TailLength),
				CaseSensitive: new(false)})
		}
	}
	for _, l := range g.Links() {
		if l.Host != host {
			continue
		}
		c := component{Path: pattern(l.Path), CaseSensitive: new(false)}
		if l.Query != "" {
			c.Query = pattern(l.Query)
		}
		lines = append(lines, c)
	}
	return lines
}

// forAndroid splits a query pattern into single parameters where possible. A line whose pattern cannot be split opens the app for any
// query; a line that excludes links with a query is omitted.
func forAndroid(lines []component) (list []component) {
	for _, c := range lines {
		c.CaseSensitive = nil
		text, ok := c.Query.(string)
		if !ok {
			list = append(list, c)
			continue
		}
		parameters := map[string]string{}
		for item := range strings.SplitSeq(text, "&") {
			name, value, hasValue := strings.Cut(item, "=")
			if _, duplicate := parameters[name]; !hasValue || name == "" || duplicate || strings.ContainsAny(name, "?*") {
				parameters = nil
				break
			}
			parameters[name] = value
		}
		switch {
		case parameters != nil && !c.Exclude:
			c.Query = parameters
		case c.Exclude:
			continue // the same parameters in another order might open the app
		default:
			c.Query = nil
		}
		list = append(list, c)
	}
	return list
}
