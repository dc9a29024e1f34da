package gateway

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// words are a text in both languages.
type words struct{ English, Chinese string }

// view is what a page shows.
type view struct {
	Kind  string // landing, code or notice
	Title words

	App  string
	Link string
	QR   template.URL // "" = the link is too long for one

	State   string // active, not_active, frozen, void, copied, redeemed, unsure
	Ends    string // the last characters of the code
	Brand   string
	Product string
	Checked checked

	Text words // of a notice

	chinese bool
	Style   template.CSS
}

// Say is a text in the page's language.
func (v view) Say(w words) string { return v.In(w.English, w.Chinese) }

// In chooses by the page's language.
func (v view) In(english, chinese string) string {
	if v.chinese {
		return chinese
	}
	return english
}

// Lang is the page's language.
func (v view) Lang() string { return v.In("en", "zh-CN") }

// Moment is a time as a person reads it.
func (v view) Moment(t time.Time) string {
	zone := t.Format("-07:00")
	if v.chinese {
		return t.Format("2006年1月2日 15:04") + "（UTC" + zone + "）"
	}
	return t.Format("2 January 2006, 15:04") + " (UTC" + zone + ")"
}

// Machine is a time as a program reads it.
func (v view) Machine(t time.Time) string { return t.Format(time.RFC3339) }

// TimesChecked says how often a code was checked.
func (v view) TimesChecked(n int64) string {
	if v.chinese {
		return fmt.Sprintf("已查询 %d 次", n)
	}
	if n == 1 {
		return "Checked once"
	}
	return fmt.Sprintf("Checked %d times", n)
}

var codeTitles = map[string]words{
	"active":     {"A genuine code", "正品验证码"},
	"copied":     {"This code may have been copied", "此码可能已被复制"},
	"redeemed":   {"This code was already redeemed", "此码已核销"},
	"unsure":     {"The maker issued this code", "此码由品牌方发放"},
	"not_active": {"This code is not active", "此码尚未激活"},
	"frozen":     {"This code is on hold", "此码已冻结"},
	"void":       {"This code is no longer valid", "此码已作废"},
}

func missing() view {
	return view{Kind: "notice", Title: words{"Nothing was found", "未找到内容"},
		Text: words{"This link or code is not known here. If it is printed on a product, check that all of it was read, and be careful: it may be a forgery.",
			"此链接或码在本站不存在。如果它印在商品上，请确认已完整识别；请谨慎，可能是仿冒。"}}
}

func limited() view {
	return view{Kind: "notice", Title: words{"Please wait a moment", "请稍候"},
		Text: words{"Too many pages were asked for from your network. Try again in a minute.", "您所在网络的访问过于频繁，请一分钟后再试。"}}
}

// away is the answer where the store would have to be asked and does not
// answer.
func (g *Gateway) away(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", seconds(linksFresh))
	g.show(w, r, AwayPage, http.StatusServiceUnavailable, view{Kind: "notice", Title: words{"Not available at the moment", "暂时无法显示"},
		Text: words{"Try again in a minute.", "请一分钟后再试。"}})
}

func refused(english, chinese string) view {
	return view{Kind: "notice", Title: words{"This cannot be shown", "无法显示"}, Text: words{english, chinese}}
}

//go:embed page.html
var pageText string

//go:embed page.css
var style string

var page = template.Must(template.New("page").Parse(pageText))

// policy lets a page have its own style and the picture in it, and nothing
// else: no script, no request anywhere.
var policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data: 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
}()

// guardHeaders are on every answer.
func guardHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// show writes a page.
func (g *Gateway) show(w http.ResponseWriter, r *http.Request, kind Page, status int, v view) {
	g.observe(kind)
	v.Style = template.CSS(style) // ours, see policy
	v.chinese = wantsChinese(r.Header.Get("Accept-Language"))
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		g.Log.ErrorContext(r.Context(), "a page could not be made", "page", string(kind), "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	guardHeaders(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.Lang())
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Security-Policy", policy)
	h.Set("Vary", "Accept-Language")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(b.Bytes())
	}
}

// wantsChinese reports whether a browser prefers Chinese to English: of the
// two, the one with the higher weight, then the one named first.
func wantsChinese(header string) bool {
	if len(header) > 1024 {
		header = header[:1024]
	}
	best, chinese := 0.0, false
	for one := range strings.SplitSeq(header, ",") {
		tag, parameters, _ := strings.Cut(strings.TrimSpace(one), ";")
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if primary != "zh" && primary != "en" {
			continue
		}
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.ToLower(strings.Join(strings.Fields(parameters), "")), "q="); ok {
			n, err := strconv.ParseFloat(q, 64)
			if err != nil || !(n >= 0 && n <= 1) {
				continue
			}
			weight = n
		}
		if weight > best {
			best, chinese = weight, primary == "zh"
		}
	}
	return chinese
}
