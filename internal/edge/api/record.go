package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Record is one call as it may be shown and kept: it holds no secret and no token.
type Record struct {
	RID     string    `json:"rid"`
	At      time.Time `json:"occurred_at"`
	Account string    `json:"account,omitempty"`
	IP      string    `json:"ip"`
	Method  string    `json:"method"`
	URL     string    `json:"url"`
	Request string    `json:"request"`
	Answer  string    `json:"response"`
	ErrCode int       `json:"errcode"`
	Detail  string    `json:"detail,omitempty" doc:"what exactly was wrong"`
	// Behaviours are the rows of the table of behaviours that decided.
	Behaviours []behaviour.Row `json:"behaviours,omitempty" doc:"ids of the behaviours that decided, see /admin/v1/behaviours"`
	Took       time.Duration   `json:"took_ns"`
}

// maxRecorded is the number of bytes of a body that are kept, maxDetail that of the detail of an error.
const (
	maxRecorded = 8 << 10
	maxDetail   = 1 << 10
)

// hidden names what a record must not show.
var hidden = []string{
	"secret", "appsecret", "component_secret", "component_appsecret", "access_token", "component_access_token",
	"authorizer_access_token", "authorizer_refresh_token", "refresh_token", "component_verify_ticket", "js_code",
	"code_ticket", "ticket", "code", "code_url", "session_key", "auth_code", "authorization_code", "pre_auth_code",
	"marketcode_key", "buffer",
}

const masked = "[masked]"

// isHidden also hides names that merely look like those of secrets: better one too many.
func isHidden(name string) bool {
	switch name { // the names of most bodies: a map takes several times as long
	case "errcode", "errmsg", "openid", "appid", "application_id", "isv_application_id", "path", "prefix", "rid",
		"code_start", "code_end", "code_index", "wxa_appid", "wxa_path", "wxa_type", "activity_name", "product_brand", "product_title",
		"product_code", "rule_list", "state", "permit_sub_rule", "open_version", "debug_url", "qrcodejump_open", "list_size",
		"qrcodejump_pub_quota", "total_count", "get_type", "page_num", "page_size", "is_edit":
		return false
	case "access_token", "code", "code_url", "code_ticket":
		return true
	}
	return isHiddenName(name)
}

func isHiddenName(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(hidden, name) || strings.Contains(name, "secret") || strings.Contains(name, "token") ||
		strings.Contains(name, "ticket")
}

func newRecord(t time.Time, r *http.Request, e endpoint, c *call, answer []byte, code *errcode.Code, detail string,
	took time.Duration) Record {
	var request string
	var object map[string]any
	if e.needs&token == 0 && len(c.body) > 0 && json.Unmarshal(c.body, &object) != nil {
		// It holds a secret, and in a text of unknown form its position is unknown.
		request = fmt.Sprintf("[not a JSON object, %d bytes]", len(c.body))
	} else {
		request = maskBody(c.body)
	}
	return Record{
		RID: c.rid, At: t, Account: c.account(), IP: c.address, Method: truncate(r.Method, 16),
		URL:     maskPath(r.URL.Path) + maskQuery(c.query),
		Request: request, Answer: maskAnswer(answer),
		ErrCode: code.Number, Detail: detail, Behaviours: c.notes.Rows(), Took: took,
	}
}

func truncate(s string, n int) string {
	if len(s) <= n && utf8.ValidString(s) {
		return s
	}
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// maskedToken is the query that most calls have.
const maskedToken = "?access_token=%5Bmasked%5D"

func maskQuery(query url.Values) string {
	if len(query) == 0 {
		return ""
	}
	if len(query) == 1 && len(query["access_token"]) == 1 {
		return maskedToken
	}
	shown := url.Values{}
	for name, values := range query {
		for _, v := range values {
			if isHidden(name) {
				v = masked
			}
			shown.Add(truncate(name, 64), truncate(v, 256))
		}
	}
	return "?" + shown.Encode()
}

// knownWords returns the words that occur in this server's paths.
var knownWords = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{"": true, "admin": true, "scan": true, "v1": true, "resolve": true, "explain": true}
	for _, path := range Paths() {
		for word := range strings.SplitSeq(path, "/") {
			words[word] = true
		}
	}
	return words
})

// LoggedPath returns a path as it may stand in a log. A part that is no word of this server's own paths
// is shown as its length, since a caller may have put a secret there.
func LoggedPath(path string) string {
	var shown strings.Builder
	for i, word := range strings.SplitN(path, "/", 9) {
		if i > 0 {
			shown.WriteByte('/')
		}
		if knownWords()[word] {
			shown.WriteString(word)
		} else {
			fmt.Fprintf(&shown, "[%d bytes]", len(word))
		}
	}
	return shown.String()
}

// maskPath returns a path as it may be shown. A caller that writes "&" for "?" has its query in the
// path.
func maskPath(path string) string {
	if !strings.Contains(path, "=") {
		return truncate(path, 256)
	}
	return truncate(hiddenPair.ReplaceAllString(path, "${1}"+masked), 256)
}

// hiddenPair finds hidden values in a text that is not JSON as a whole.
var hiddenPair = regexp.MustCompile(
	`(?i)(["']?[a-z_]*(?:secret|token|ticket|code|key)[a-z_]*["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^,&}\s]+)`)

// maskBody hides secrets wherever they stand in a JSON body.
func maskBody(body []byte) string {
	if len(body) == 0 {
		return ""
	}
	if shown, ok := maskPlain(body); ok {
		return truncate(shown, maxRecorded)
	}
	return maskAny(body)
}

// maskAny is maskBody for a body of any form.
func maskAny(body []byte) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		// Only the part that is recorded is searched: a stranger's megabyte would take long.
		return truncate(hiddenPair.ReplaceAllString(string(body[:min(len(body), maxRecorded+1)]), "${1}"+masked), maxRecorded)
	}
	var shown strings.Builder
	out := json.NewEncoder(&shown)
	out.SetEscapeHTML(false)
	if out.Encode(maskValue(v)) != nil {
		return masked
	}
	return truncate(strings.TrimSuffix(shown.String(), "\n"), maxRecorded)
}

// hiddenAnswer finds hidden values in the beginning of an answer of our own.
var hiddenAnswer = regexp.MustCompile(`("(?:` + strings.Join(hidden, "|") + `)":)"(?:[^"\\]|\\.)*"?`)

// maskAnswer is maskBody for an answer of our own: of a long one only the
// beginning is looked at, because only that is kept.
func maskAnswer(answer []byte) string {
	if len(answer) <= 2*maxRecorded {
		return maskBody(answer)
	}
	return truncate(hiddenAnswer.ReplaceAllString(string(answer[:maxRecorded+1]), `${1}"`+masked+`"`), maxRecorded)
}

func maskValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if isHidden(name) {
				v[name] = masked
			} else {
				v[name] = maskValue(inner)
			}
		}
	case []any:
		for i := range v {
			v[i] = maskValue(v[i])
		}
	}
	return v
}
