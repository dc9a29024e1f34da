package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// scanPages are the pages of single scans, and of those who scanned.
func (c *Console) scanPages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/statistics/scans":        c.scans,
		"POST /console/statistics/scans":       c.eraseUser,
		"GET /console/statistics/scans/{scan}": c.oneScan,
	}
}

type scansView struct {
	From, To, User, Namespace, Rule, Code, AppID string
	Scans                                        []client.RecordedScan
	Newest                                       bool   // these are the newest, not those that match
	Next                                         string // the scan that a page goes on after; "" = there are no more
	Looked                                       int
	OpenID                                       string
	Fault                                        string
	Erased                                       *client.Erased
}

// askedScans is what of the scans the address wants; ok is false where it cannot be.
func (v *visit) askedScans() (s scansView, asked url.Values, ok bool) {
	text := func(name string) string { return strings.TrimSpace(v.r.URL.Query().Get(name)) }
	s = scansView{From: text("from"), To: text("to"), User: text("user"), Namespace: text("namespace"), Rule: text("rule"),
		Code: text("code"), AppID: text("appid")}
	asked = url.Values{}
	for name, value := range map[string]string{"from": s.From, "to": s.To, "user": s.User, "rule": s.Rule} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	if s.User != "" && s.Namespace != "" {
		asked.Set("namespace", s.Namespace)
	}
	if s.Code != "" {
		batch, index, _ := strings.Cut(s.Code, ":")
		_, wrong := strconv.ParseInt(batch, 10, 64)
		_, bad := strconv.ParseInt(index, 10, 64)
		if wrong != nil || bad != nil {
			return s, nil, false
		}
		asked.Set("application_id", batch)
		asked.Set("code_index", index)
	}
	return s, asked, true
}

// scans lists the newest scans, or those that match from the oldest on.
func (c *Console) scans(v *visit) { v.showScans(http.StatusOK, nil) }

func (v *visit) showScans(status int, erased *client.Erased) {
	data, asked, ok := v.askedScans()
	if data.Erased = erased; !ok {
		data.Fault = v.say("scans.code.form")
		v.show(http.StatusUnprocessableEntity, "scans", data)
		return
	}
	if data.AppID != "" && data.User != "" {
		var found client.OpenID
		named := url.Values{"appid": {data.AppID}}
		if data.Namespace != "" {
			named.Set("namespace", data.Namespace)
		}
		if v.failed(v.ask("GET", "/users/"+url.PathEscape(data.User)+"/openid?"+named.Encode(), nil, &found)) {
			return
		}
		data.OpenID = found.OpenID
	}
	if data.Newest = len(asked) == 0; data.Newest {
		asked.Set("newest", strconv.Itoa(pageRows))
	} else if after := v.r.URL.Query().Get("after"); after != "" {
		asked.Set("after", after)
	}
	asked.Set("limit", strconv.Itoa(pageRows))
	var page client.ScanPage
	if v.failed(v.ask("GET", "/scans?"+asked.Encode(), nil, &page)) {
		return
	}
	if data.Scans = page.Scans; data.Newest {
		slices.Reverse(data.Scans)
	} else if page.More {
		data.Next = page.Next
	}
	if page.Looked != nil {
		data.Looked = *page.Looked
	}
	v.show(status, "scans", data)
}

// oneScan shows one scan.
func (c *Console) oneScan(v *visit) {
	var found client.RecordedScan
	if !v.failed(v.ask("GET", "/scans/"+url.PathEscape(v.r.PathValue("scan")), nil, &found)) {
		v.show(http.StatusOK, "one-scan", found)
	}
}

// eraseUser makes the scans of a user anonymous, after the user was typed once more.
func (c *Console) eraseUser(v *visit) {
	user, namespace := strings.TrimSpace(v.r.FormValue("user")), strings.TrimSpace(v.r.FormValue("namespace"))
	if user == "" || v.r.FormValue("did") != "erase" {
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.sure("sure.erase", user) {
		return
	}
	path := "/users/" + url.PathEscape(user) + "/scans"
	if namespace != "" {
		path += "?namespace=" + url.QueryEscape(namespace)
	}
	var done client.Erased
	if !v.failed(v.ask("DELETE", path, nil, &done)) {
		v.showScans(http.StatusOK, &done)
	}
}

// CodeOf is the name of the code that was scanned, as people type it; "" = none was.
func (v view) CodeOf(s client.RecordedScan) string {
	if s.CodeIndex == nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", s.ApplicationID, *s.CodeIndex)
}
