package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// packagePages are the pages of what printers get.
func (c *Console) packagePages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/packages":                 c.packages,
		"POST /console/packages":                c.makePackage,
		"GET /console/packages/{package}":       c.onePackage,
		"POST /console/packages/{package}":      c.changePackage,
		"POST /console/packages/{package}/file": c.sendPackage,
	}
}

// listFormats are the kinds of lists of a package.
var listFormats = []string{"csv", "ndjson", "lines", "text"}

type packagesView struct {
	Account  string
	Packages []client.Package
	More     int64
	Signer   client.PackageSigner
	Form     packageForm
}

// packageForm is a package as somebody fills it in.
type packageForm struct {
	Batch, From, To, Spare, Proofs, Printer, Recipients, Reason, Format string
	Fault                                                               string
}

func (packageForm) Formats() []string { return listFormats }

// packages lists which codes were handed to which printer.
func (c *Console) packages(v *visit) {
	v.showPackages(http.StatusOK, packageForm{Batch: v.r.URL.Query().Get("batch"), Format: "csv"})
}

func (v *visit) showPackages(status int, form packageForm) {
	q := v.r.URL.Query()
	data := packagesView{Account: v.narrowed("account"), Form: form}
	asked := url.Values{"limit": {strconv.Itoa(pageRows)}}
	for name, value := range map[string]string{"account": data.Account, "application_id": q.Get("batch"), "after": q.Get("after")} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	var list client.PackageList
	if v.failed(v.ask("GET", "/packages?"+asked.Encode(), nil, &list)) || v.failed(v.ask("GET", "/package-signer", nil, &data.Signer)) {
		return
	}
	if data.Packages = list.Packages; len(list.Packages) == pageRows {
		data.More = list.Packages[pageRows-1].ID
	}
	v.show(status, "packages", data)
}

// makePackage notes that codes are handed to a printer.
func (c *Console) makePackage(v *visit) {
	text := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	f := packageForm{Batch: text("batch"), From: text("from"), To: text("to"), Spare: text("spare"), Proofs: text("proofs"),
		Printer: text("printer"), Recipients: text("recipients"), Reason: text("reason"), Format: text("format")}
	ok := true
	number := func(text string) int64 {
		if text == "" {
			return 0
		}
		n, err := strconv.ParseInt(text, 10, 64)
		ok = ok && err == nil && n >= 0
		return n
	}
	batch := number(f.Batch)
	wish := client.PackageWish{From: number(f.From), To: number(f.To), Spare: number(f.Spare), Proofs: number(f.Proofs),
		Printer: f.Printer, Reason: f.Reason}
	if f.Format != "" {
		wish.Formats = []string{f.Format}
	}
	for line := range strings.Lines(f.Recipients) { // a key of ssh has blanks in it
		if line = strings.TrimSpace(line); line != "" {
			wish.Recipients = append(wish.Recipients, line)
		}
	}
	if f.Batch == "" || f.Printer == "" || !ok {
		f.Fault = v.say("packages.form")
		v.showPackages(http.StatusUnprocessableEntity, f)
		return
	}
	var made client.Package
	err := v.ask("POST", fmt.Sprintf("/batches/%d/packages", batch), wish, &made)
	if said, ok := errors.AsType[refusal](err); ok && (said.Status == http.StatusUnprocessableEntity ||
		said.Status == http.StatusConflict) {
		f.Fault = said.Detail
		v.showPackages(said.Status, f)
		return
	}
	if !v.failed(err) {
		v.redirect(packagePage(made.ID) + "?done=package")
	}
}

func packagePage(id int64) string { return fmt.Sprintf("%s/packages/%d", Root, id) }

type packageView struct {
	client.Package
	Fault string
}

func (c *Console) onePackage(v *visit) { v.showPackage(http.StatusOK, "") }

func (v *visit) showPackage(status int, fault string) {
	data := packageView{Fault: fault}
	if !v.failed(v.ask("GET", "/packages/"+url.PathEscape(v.r.PathValue("package")), nil, &data.Package)) {
		v.show(status, "package", data)
	}
}

// changePackage recalls a package, or notes what the printer destroyed of it.
func (c *Console) changePackage(v *visit) {
	name := v.r.PathValue("package")
	at := "/packages/" + url.PathEscape(name)
	body := map[string]any{}
	if note := strings.TrimSpace(v.r.FormValue("note")); note != "" {
		body["note"] = note
	}
	var err error
	switch v.r.FormValue("did") {
	case "recall":
		if !v.sure("sure.recall", name) {
			return
		}
		err = v.ask("POST", at+"/recall", body, nil)
	case "spoil":
		var ranges []client.CodeRange
		for _, word := range listed(v.r.FormValue("ranges")) {
			first, last, isRange := strings.Cut(word, "-")
			if !isRange {
				last = first
			}
			from, wrong := strconv.ParseInt(first, 10, 64)
			to, bad := strconv.ParseInt(last, 10, 64)
			if wrong != nil || bad != nil {
				v.showPackage(http.StatusUnprocessableEntity, v.say("packages.ranges.form"))
				return
			}
			ranges = append(ranges, client.CodeRange{From: from, To: to})
		}
		if len(ranges) == 0 {
			v.showPackage(http.StatusUnprocessableEntity, v.say("packages.ranges.form"))
			return
		}
		if !v.sure("sure.spoil", name) {
			return
		}
		body["ranges"] = ranges
		err = v.ask("POST", at+"/spoiled", body, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if said, ok := errors.AsType[refusal](err); ok && (said.Status == http.StatusUnprocessableEntity ||
		said.Status == http.StatusConflict) {
		v.showPackage(said.Status, said.Detail)
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/packages/" + url.PathEscape(name) + "?done=package")
	}
}

// sendPackage gives the file of a package. A download that breaks off is repeated so: it is
// a form, since each is noted.
func (c *Console) sendPackage(v *visit) {
	wish := map[string]string{}
	if words := v.r.FormValue("passphrase"); words != "" {
		wish["passphrase"] = words
	}
	body, err := json.Marshal(wish)
	if !v.failed(err) {
		v.pass("POST", "/packages/"+url.PathEscape(v.r.PathValue("package"))+"/file", "application/json", bytes.NewReader(body))
	}
}
