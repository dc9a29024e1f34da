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

type codesView struct {
	Account string
	Batches []client.Batch
	More    int64
	Asked   string
	Found   string // JSON
	Sure    *sure
}

// sure is a change of codes that is asked back before it is done.
type sure struct {
	Batch, Did, From, To string
	Count                int64
}

func (c *Console) codes(v *visit) {
	q := v.r.URL.Query()
	data := codesView{Account: v.narrowed("account"), Asked: strings.TrimSpace(q.Get("code"))}
	if data.Asked != "" {
		body := map[string]any{"code_url": data.Asked}
		if batch, index, ok := strings.Cut(data.Asked, ":"); ok {
			b, err1 := strconv.ParseInt(batch, 10, 64)
			i, err2 := strconv.ParseInt(index, 10, 64)
			if err1 == nil && err2 == nil {
				body = map[string]any{"application_id": b, "code_index": i}
			}
		} else if len(data.Asked) == 9 {
			body = map[string]any{"code": data.Asked}
		}
		a, err := v.through(v.c.API, "POST", "/admin/v1/codes/lookup", body)
		if v.failed(err) {
			return
		}
		data.Found = nice(a.body.String())
	}
	asked := url.Values{"limit": {strconv.Itoa(pageRows)}}
	for name, value := range map[string]string{"account": data.Account, "after": q.Get("after")} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	var list client.BatchList
	if v.failed(v.ask("GET", "/batches?"+asked.Encode(), nil, &list)) {
		return
	}
	if data.Batches = list.Batches; len(list.Batches) == pageRows {
		data.More = list.Batches[pageRows-1].ID
	}
	v.show(http.StatusOK, "codes", data)
}

// changeCodes asks back how many codes it is, then does it.
func (c *Console) changeCodes(v *visit) {
	s := &sure{Batch: v.r.FormValue("batch"), Did: v.r.FormValue("did"), From: v.r.FormValue("from"), To: v.r.FormValue("to")}
	batch, err := strconv.ParseInt(s.Batch, 10, 64)
	from, err1 := strconv.ParseInt(s.From, 10, 64)
	to, err2 := strconv.ParseInt(s.To, 10, 64)
	known := slices.Contains([]string{"freeze", "unfreeze", "void", "redeem"}, s.Did)
	if err != nil || err1 != nil || err2 != nil || from < 0 || to < from || !known {
		v.fault(http.StatusUnprocessableEntity, v.say("codes.fault"))
		return
	}
	s.Count = to - from + 1
	if v.r.FormValue("sure") != strconv.FormatInt(s.Count, 10) {
		v.show(http.StatusOK, "codes", codesView{Sure: s})
		return
	}
	body := map[string]any{"did": s.Did, "ranges": []map[string]int64{{"from": from, "to": to}}}
	if !v.failed(v.ask("POST", fmt.Sprintf("/batches/%d/states", batch), body, nil)) {
		v.redirect(Root + "/codes?done=codes")
	}
}
