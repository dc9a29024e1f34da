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
)

// Record is one call in the form in which it is shown and stored, without secrets and tokens.
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
	Detail  string    `json:"detail,omitempty" doc:"description of the error"`
	// Behaviours are the IDs of the behaviours that decided the result.
	Behaviours []string      `json:"behaviours,omitempty" doc:"IDs of the behaviours that applied, see /admin/v1/behaviours"`
	Took       time.Duration `json:"duration_ns"`
}

// maxRecorded is the maximum number of bytes of a recorded body, and maxDetail the maximum length of an error detail.
const (
	maxRecorded = 8 << 10
	maxDetail   = 1 << 10
)

// secretNames lists the field names whose values are masked in a record.
var secretNames = []string{
	"secret", "appsecret", "component_secret", "component_appsecret", "access_token", "component_access_token",
	"authorizer_access_token", "authorizer_refresh_token", "refresh_token", "component_verify_ticket", "js_code",
	"code_ticket", "ticket", "code", "code_url", "session_key", "auth_code", "authorization_code", "pre_auth_code",
	"marketcode_key", "buffer",
}

const masked = "[masked]"

// isSecretName reports whether to mask a field with this name; to be safe, it is also true for names that resemble names of secrets.
func isSecretName(name string) bool {
	switch name { // the names in most bodies; a map lookup would take several times as long
	case "errcode", "errmsg", "openid", "appid", "application_id", "isv_application_id", "path", "prefix", "rid",
		"code_start", "code_end", "code_index", "wxa_appid", "wxa_path", "wxa_type", "activity_name", "product_brand", "product_title",
		"product_code", "rule_list", "state", "permit_sub_rule", "open_version", "debug_url", "qrcodejump_open", "list_size",
		"qrcodejump_pub_quota", "total_count", "get_type", "page_num", "page_size", "is_edit":
		return false
	case "access_token", "code", "code_url", "code_ticket":
		return true
	}
	return resemblesSecretName(name)
}

func resemblesSecretName(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(secretNames, name) || strings.Contains(name, "secret") || strings.Contains(name, "token") ||
		strings.Contains(name, "ticket")
}

func newRecord(t time.Time, r *http.Request, e endpoint, c *call, answer []byte, o outcome) Record {
	var request string
	var object map[string]any
	if e.needs&token == 0 && len(c.body) > 0 && json.Unmarshal(c.body, &object) != nil {
		// The body contains a secret, and in a text of unknown form the position of the secret is unknown.
		request = fmt.Sprintf("[not a JSON object, %d bytes]", len(c.body))
	} else {
		request = maskBody(c.body)
	}
	rows := c.notes.Rows()
	behaviours := slices.Grow([]string(nil), len(rows))
	for _, row := range rows {
		behaviours = append(behaviours, row.String())
	}
	return Record{
		RID: c.rid, At: t, Account: c.account(), IP: c.address, Method: truncate(r.Method, 16),
		URL:     maskPath(r.URL.Path) + maskQuery(c.query),
		Request: request, Answer: maskResponse(answer),
		ErrCode: o.code.Number, Detail: o.detail, Behaviours: behaviours, Took: o.took,
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

// maskedToken is the masked query string of most calls.
const maskedToken = "?access_token=%5Bmasked%5D"

func maskQuery(query url.Values) string {
	if len(query) == 0 {
		return ""
	}
	if len(query) == 1 && len(query["access_token"]) == 1 {
		return maskedToken
	}
	out := url.Values{}
	for name, values := range query {
		for _, v := range values {
			if isSecretName(name) {
				v = masked
			}
			out.Add(truncate(name, 64), truncate(v, 256))
		}
	}
	return "?" + out.Encode()
}

// pathWords returns the words that occur in this server's URL paths.
var pathWords = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{"": true, "admin": true, "scan": true, "v1": true, "resolve": true, "explain": true}
	for _, path := range Paths() {
		for word := range strings.SplitSeq(path, "/") {
			words[word] = true
		}
	}
	return words
})

// LoggedPath returns a URL path in the form in which it may be logged. A path segment that is not a word of this server's own paths
// is replaced with its length, because a caller may have put a secret there.
func LoggedPath(path string) string {
	var out strings.Builder
	for i, word := range strings.SplitN(path, "/", 9) {
		if i > 0 {
			out.WriteByte('/')
		}
		if pathWords()[word] {
			out.WriteString(word)
		} else {
			fmt.Fprintf(&out, "[%d bytes]", len(word))
		}
	}
	return out.String()
}

// maskPath returns a path in the form in which it may be shown. A client that types "&" instead of "?" sends its query inside the path.
func maskPath(path string) string {
	if !strings.Contains(path, "=") {
		return truncate(path, 256)
	}
	return truncate(secretPair.ReplaceAllString(path, "${1}"+masked), 256)
}

// secretPair matches name/value pairs to mask in a body that is not valid JSON.
var secretPair = regexp.MustCompile(
	`(?i)(["']?[a-z_]*(?:secret|token|ticket|code|key)[a-z_]*["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^,&}\s]+)`)

// maskBody masks secrets at any depth of a JSON body.
func maskBody(body []byte) string {
	if len(body) == 0 {
		return ""
	}
	if text, ok := maskPlain(body); ok {
		return truncate(text, maxRecorded)
	}
	return maskAny(body)
}

// maskAny implements maskBody for a body of any form.
func maskAny(body []byte) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		// Only the recorded beginning is searched, because searching a megabyte from an unknown client would take long.
		return truncate(secretPair.ReplaceAllString(string(body[:min(len(body), maxRecorded+1)]), "${1}"+masked), maxRecorded)
	}
	var shown strings.Builder
	out := json.NewEncoder(&shown)
	out.SetEscapeHTML(false)
	if out.Encode(maskValue(v)) != nil {
		return masked
	}
	return truncate(strings.TrimSuffix(shown.String(), "\n"), maxRecorded)
}

// secretMember matches values to mask in the beginning of a response of this server.
var secretMember = regexp.MustCompile(`("(?:` + strings.Join(secretNames, "|") + `)":)"(?:[^"\\]|\\.)*"?`)

// maskResponse implements maskBody for a response of this server; of a long response only the recorded beginning is processed.
func maskResponse(answer []byte) string {
	if len(answer) <= 2*maxRecorded {
		return maskBody(answer)
	}
	return truncate(secretMember.ReplaceAllString(string(answer[:maxRecorded+1]), `${1}"`+masked+`"`), maxRecorded)
}

func maskValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if isSecretName(name) {
				v[name] = masked
			} else {
				v[name] = maskValue(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = maskValue(v[i])
		}
	}
	return v
}
