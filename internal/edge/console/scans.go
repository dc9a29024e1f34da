package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type scansView struct {
	client.ScanFilter
	Rule, Code, AppID string
	Scans             []client.RecordedScan
	Newest            bool   // the newest scans are shown, without a filter
	Next              string // the scan after which the next page starts; "" = last page
	Examined          int
	OpenID            string
	Error             string
	Erased            *client.ErasureResult
}

func (pages scanPages) showScans(v *request, status int, erased *client.ErasureResult) error {
	text := func(name string) string { return strings.TrimSpace(v.r.URL.Query().Get(name)) }
	data := scansView{Rule: text("rule"), Code: text("code"), AppID: text("appid"), Erased: erased}
	if err := v.query(&data.ScanFilter, "from to user namespace owner rule"); err != nil {
		return err
	}
	data.Owner = cmp.Or(data.Owner, v.Account())
	name := client.ParseCodeName(data.Code)
	if data.Code != "" && name.ID <= 0 {
		data.Error = v.say("scans.code.form")
		return v.show(http.StatusUnprocessableEntity, "scans", data)
	}
	asked := data.ScanFilter
	asked.ApplicationID, asked.CodeIndex = name.ID, name.Index
	if data.User == "" {
		asked.Namespace = ""
	}
	var page client.ScanPage
	var err, failed error
	if data.AppID != "" && data.User != "" {
		data.OpenID, failed = v.api.Accounts.GetOpenID(v.ctx(), data.AppID, data.User, data.Namespace)
	}
	if data.Newest = data.From+data.To+data.User+data.Rule+data.Code == ""; data.Newest {
		page, err = v.api.Scans.ListPage(v.ctx(), client.ScanQuery{Newest: pageRows, Limit: pageRows, ScanFilter: asked})
	} else {
		page, err = v.api.Scans.ListPage(v.ctx(), client.ScanQuery{After: v.r.URL.Query().Get("after"), Limit: pageRows, ScanFilter: asked})
	}
	if err := cmp.Or(failed, err); err != nil {
		return err
	}
	if data.Scans = page.Scans; data.Newest {
		slices.Reverse(data.Scans)
	} else if page.More {
		data.Next = page.Next
	}
	data.Examined = page.Examined
	return v.show(status, "scans", data)
}

// oneScan shows the page of one scan.
func (pages scanPages) oneScan(v *request) error {
	found, err := v.api.Scans.Get(v.ctx(), v.r.PathValue("scan"))
	return v.page("scan-event", found, err)
}

// eraseUser anonymises the scans of a user, after the visitor typed the user's name again.
func (pages scanPages) eraseUser(v *request) error {
	user, namespace := strings.TrimSpace(v.r.FormValue("user")), strings.TrimSpace(v.r.FormValue("namespace"))
	if user == "" || v.r.FormValue("did") != "erase" {
		return v.reject("fault.form")
	}
	if err := v.confirmed(v.say("sure.erase", user), user, nil); err != nil {
		return err
	}
	scans, err := v.api.Scans.EraseUser(v.ctx(), namespace, user)
	return afterwards(err, func() error { return pages.showScans(v, http.StatusOK, &client.ErasureResult{Scans: scans}) })
}

// CodeOf returns the name of the scanned code as people type it; "" = the scan has no code.
func (v view) CodeOf(s client.RecordedScan) string {
	if s.CodeIndex == nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", s.ApplicationID, *s.CodeIndex)
}
