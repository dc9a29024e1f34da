package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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

// listFormats are the kinds of lists of a package, drawnFormats those of its labels.
var (
	listFormats  = []string{"csv", "ndjson", "lines", "text"}
	drawnFormats = []string{"sheet", "png", "svg", "pdf", "zpl", "epl"}
)

// labelFields are how labels are drawn, by the names of the admin API: those of all, and
// those of sheets.
var (
	labelFields = []string{"module", "dpi", "quiet", "line_height", "colour", "background"}
	pageFields  = []string{"sheet", "start_at", "offset", "page", "columns", "rows", "label", "pitch", "margin", "gap", "footer"}
)

type packagesView struct {
	Account  string
	Packages []client.Package
	More     int64
	Signer   client.PackageSigner
	Form     packageForm
}

// packageForm is the form of a package, with what somebody typed.
type packageForm struct {
	Batch, From, To, Spare, Proofs, Printer, Recipients, Reason string

	Chosen []string          // formats
	Drawn  map[string]string // how labels are drawn, by the names of the admin API
	Faults map[string]string // by field; "drawing" is for all label fields together
	Fault  string            // a fault of no single field
}

func (packageForm) Lists() []string  { return listFormats }
func (packageForm) Labels() []string { return drawnFormats }

func (packageForm) Kinds() []string  { return []string{"qr", "datamatrix", "matrix", "both"} }
func (packageForm) Levels() []string { return []string{"L", "M", "Q", "H"} }

// Has reports whether a format is chosen.
func (f packageForm) Has(format string) bool { return slices.Contains(f.Chosen, format) }

// draws reports whether labels are chosen.
func (f packageForm) draws() bool { return slices.ContainsFunc(drawnFormats, f.Has) }

// Open reports whether the fields of labels are shown unfolded.
func (f packageForm) Open() bool { return f.draws() || f.Faults["drawing"] != "" }

// packageField is one input of the form; Label and Hint are phrases, Hint "" for none.
type packageField struct {
	Name, Label, Hint, Value, Fault string
	Wanted                          bool
}

// Fields are those for which codes go to whom.
func (f packageForm) Fields() []packageField {
	return []packageField{
		{"batch", "codes.batch", "", f.Batch, f.Faults["batch"], true},
		{"from", "codes.from", "", f.From, f.Faults["from"], true},
		{"to", "codes.to", "", f.To, f.Faults["to"], true},
		{"printer", "packages.printer", "", f.Printer, f.Faults["printer"], true},
		{"spare", "packages.spare", "packages.spare.hint", f.Spare, f.Faults["spare"], false},
		{"proofs", "packages.proofs", "packages.proofs.hint", f.Proofs, f.Faults["proofs"], false},
		{"reason", "packages.reason", "packages.reason.hint", f.Reason, f.Faults["reason"], false},
	}
}

// LabelFields are the fields for how labels are drawn, PageFields those for how they stand on
// sheets.
func (f packageForm) LabelFields() []packageField { return f.drawn(labelFields) }
func (f packageForm) PageFields() []packageField  { return f.drawn(pageFields) }

func (f packageForm) drawn(names []string) (fields []packageField) {
	for _, name := range names {
		label := "packages.draw." + name
		fields = append(fields, packageField{name, label, label + ".hint", f.Drawn[name], f.Faults[name], false})
	}
	return fields
}

// blame notes a refusal of the admin API at the field whose name it begins with.
func (f *packageForm) blame(detail string) {
	for of, field := range map[string]string{"drawing: ": "drawing", "formats": "format", "printer: ": "printer", "reason: ": "reason",
		"spare is ": "spare", "proofs is ": "proofs", "code_start ": "from", "code_end ": "to"} {
		if strings.HasPrefix(detail, of) {
			f.Faults[field] = detail
			return
		}
	}
	if word, is := strings.CutPrefix(detail, "drawing."); is {
		if word, why, is := strings.Cut(word, ": "); is {
			f.Faults[word] = why
			return
		}
	}
	f.Fault = detail
}

// packages lists which codes were handed to which printer.
func (c *Console) packages(v *visit) {
	v.showPackages(http.StatusOK, packageForm{Batch: v.r.URL.Query().Get("batch"), Chosen: []string{"csv"},
		Drawn: map[string]string{"kind": "qr", "level": "Q", "dpi": "300", "module": "0.4mm", "lines": "{serial}", "line_height": "2mm",
			"page": "a4", "columns": "4", "rows": "10", "margin": "10mm", "gap": "0mm", "start_at": "1"}})
}

func (v *visit) showPackages(status int, form packageForm) {
	data := packagesView{Account: v.narrowed("account"), Form: form}
	batch, ok := v.number("batch")
	if !ok {
		return
	}
	after, ok := v.number("after")
	if !ok {
		return
	}
	wanted := client.PackageQuery{Account: data.Account, ApplicationID: batch, After: after, Limit: pageRows}
	if v.failed(into(&data.Packages)(v.api.Packages(v.ctx(), wanted))) || v.failed(into(&data.Signer)(v.api.PackageSigner(v.ctx()))) {
		return
	}
	if len(data.Packages) == pageRows {
		data.More = data.Packages[pageRows-1].ID
	}
	v.show(status, "packages", data)
}

// makePackage notes that codes are handed to a printer.
func (c *Console) makePackage(v *visit) {
	text := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	f := packageForm{Batch: text("batch"), From: text("from"), To: text("to"), Spare: text("spare"), Proofs: text("proofs"),
		Printer: text("printer"), Recipients: text("recipients"), Reason: text("reason"), Chosen: v.r.Form["format"],
		Drawn: map[string]string{}, Faults: map[string]string{}}
	for _, name := range slices.Concat(labelFields, pageFields, []string{"kind", "level", "lines", "beside", "crop_marks"}) {
		f.Drawn[name] = text(name)
	}
	number := func(name string, text string) int64 {
		if text == "" {
			return 0
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			f.Faults[name] = v.say("packages.number.form")
		}
		return n
	}
	for name, text := range map[string]string{"batch": f.Batch, "from": f.From, "to": f.To, "printer": f.Printer} {
		if text == "" {
			f.Faults[name] = v.say("packages.wanted")
		}
	}
	batch := number("batch", f.Batch)
	wish := client.PackageWish{From: number("from", f.From), To: number("to", f.To), Spare: number("spare", f.Spare),
		Proofs: number("proofs", f.Proofs), Printer: f.Printer, Reason: f.Reason, Formats: f.Chosen}
	if f.draws() {
		d := client.LabelDrawing{Kind: f.Drawn["kind"], Module: f.Drawn["module"], DPI: int(number("dpi", f.Drawn["dpi"])),
			Level: f.Drawn["level"], LineHeight: f.Drawn["line_height"],
			Beside: f.Drawn["beside"] != "", Colour: f.Drawn["colour"], Background: f.Drawn["background"]}
		if f.Drawn["quiet"] != "" {
			d.Quiet = new(int(number("quiet", f.Drawn["quiet"])))
		}
		for line := range strings.Lines(f.Drawn["lines"]) {
			if line = strings.TrimSpace(line); line != "" {
				d.Lines = append(d.Lines, line)
			}
		}
		if f.Has("sheet") {
			if d.Sheet = f.Drawn["sheet"]; d.Sheet == "" { // one that is bought says these itself
				d.Page = f.Drawn["page"]
				d.Columns, d.Rows = int(number("columns", f.Drawn["columns"])), int(number("rows", f.Drawn["rows"]))
				d.Label, d.Pitch, d.Margin, d.Gap = f.Drawn["label"], f.Drawn["pitch"], f.Drawn["margin"], f.Drawn["gap"]
			}
			d.StartAt, d.Offset = int(number("start_at", f.Drawn["start_at"])), f.Drawn["offset"]
			d.Footer, d.CropMarks = f.Drawn["footer"], f.Drawn["crop_marks"] != ""
		}
		wish.Drawing = &d
	}
	for line := range strings.Lines(f.Recipients) { // line by line: an SSH key has blanks in it
		if line = strings.TrimSpace(line); line != "" {
			wish.Recipients = append(wish.Recipients, line)
		}
	}
	if len(f.Faults) > 0 {
		v.showPackages(http.StatusUnprocessableEntity, f)
		return
	}
	made, err := v.api.MakePackage(v.ctx(), batch, wish)
	if said, is := mendable(err); is {
		f.blame(said.Detail)
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
	id, ok := v.packageID()
	if !ok {
		return
	}
	if one, err := v.api.Package(v.ctx(), id); !v.failed(err) {
		v.show(status, "package", packageView{one, fault})
	}
}

// packageID is the number of the package that the address names; false where it names none, and a
// page said so.
func (v *visit) packageID() (int64, bool) {
	id, err := strconv.ParseInt(v.r.PathValue("package"), 10, 64)
	if err != nil {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
	}
	return id, err == nil
}

// changePackage recalls a package, or notes what the printer destroyed of it.
func (c *Console) changePackage(v *visit) {
	id, ok := v.packageID()
	if !ok {
		return
	}
	name, note := v.r.PathValue("package"), strings.TrimSpace(v.r.FormValue("note"))
	var err error
	switch v.r.FormValue("did") {
	case "recall":
		if !v.sure("sure.recall", name) {
			return
		}
		_, err = v.api.RecallPackage(v.ctx(), id, note, "")
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
		_, err = v.api.SpoilCodes(v.ctx(), id, ranges, note, "")
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if said, is := mendable(err); is {
		v.showPackage(said.Status, said.Detail)
		return
	}
	if !v.failed(err) {
		v.redirect(packagePage(id) + "?done=package")
	}
}

// sendPackage answers the file of a package, also once more where a download broke off. It takes a
// form and no link, since each download is noted.
func (c *Console) sendPackage(v *visit) {
	wish := map[string]string{}
	if words := v.r.FormValue("passphrase"); words != "" {
		wish["passphrase"] = words
	}
	body, err := json.Marshal(wish)
	if !v.failed(err) {
		v.forward("POST", "/packages/"+url.PathEscape(v.r.PathValue("package"))+"/file", "application/json", bytes.NewReader(body))
	}
}
