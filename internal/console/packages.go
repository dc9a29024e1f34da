package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
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

// packageForm is how the form of a package begins.
type packageForm struct{ Batch string }

func (packageForm) Lists() []string  { return listFormats }
func (packageForm) Labels() []string { return drawnFormats }

// Text is what stands beside each label unless somebody says otherwise.
func (packageForm) Text() string { return "{serial}" }

func (packageForm) Kinds() []string {
	return []string{"qr", "datamatrix", "matrix", "both", "gs1-qr", "gs1-datamatrix", "gs1-digital-link"}
}
func (packageForm) Levels() []string { return []string{"L", "M", "Q", "H"} }

// packageField is one input of the form; Label and Hint are phrases, Hint "" for none.
type packageField struct {
	Name, Label, Hint, Value string
	Wanted                   bool
}

// Fields are those for which codes go to whom.
func (f packageForm) Fields() []packageField {
	return []packageField{
		{"batch", "codes.batch", "", f.Batch, true},
		{"from", "codes.from", "", "", true},
		{"to", "codes.to", "", "", true},
		{"printer", "packages.printer", "", "", true},
		{"spare", "packages.spare", "packages.spare.hint", "", false},
		{"proofs", "packages.proofs", "packages.proofs.hint", "", false},
		{"reason", "packages.reason", "packages.reason.hint", "", false},
	}
}

// usual is how labels are drawn unless somebody says otherwise.
var usual = map[string]string{"dpi": "300", "module": "0.4mm", "line_height": "2mm", "page": "a4", "columns": "4", "rows": "10",
	"margin": "10mm", "gap": "0mm", "start_at": "1"}

// LabelFields are the fields for how labels are drawn, PageFields those for how they stand on
// sheets.
func (packageForm) LabelFields() []packageField { return drawn(labelFields) }
func (packageForm) PageFields() []packageField  { return drawn(pageFields) }

func drawn(names []string) (fields []packageField) {
	for _, name := range names {
		label := "packages.draw." + name
		fields = append(fields, packageField{name, label, label + ".hint", usual[name], false})
	}
	return fields
}

// packages lists which codes were handed to which printer.
func (c *Console) packages(v *visit) {
	data := packagesView{Account: v.narrowed("account"), Form: packageForm{Batch: v.r.URL.Query().Get("batch")}}
	batch, ok := v.number("batch")
	if !ok {
		return
	}
	after, ok := v.number("after")
	if !ok {
		return
	}
	wanted := client.PackageQuery{Account: data.Account, ApplicationID: batch, After: after, Limit: pageRows,
		Waiting: v.r.URL.Query().Get("waiting") != ""}
	if v.failed(into(&data.Packages)(v.api.Packages(v.ctx(), wanted))) || v.failed(into(&data.Signer)(v.api.PackageSigner(v.ctx()))) {
		return
	}
	if len(data.Packages) == pageRows {
		data.More = data.Packages[pageRows-1].ID
	}
	v.show(http.StatusOK, "packages", data)
}

// makePackage notes that codes are handed to a printer, or answers the file of a job that prints them elsewhere.
func (c *Console) makePackage(v *visit) {
	faults := map[string]string{}
	job := v.r.FormValue("did") == "job"
	wanted := []string{"batch", "from", "to", "printer"}
	if job {
		wanted = wanted[:3]
	}
	for _, name := range wanted {
		if v.word(name) == "" {
			faults[name] = v.say("packages.wanted")
		}
	}
	batch, formats := v.counted("batch", faults), v.r.PostForm["format"]
	wish := client.PackageWish{From: v.counted("from", faults), To: v.counted("to", faults), Spare: v.counted("spare", faults),
		Proofs: v.counted("proofs", faults), Printer: v.word("printer"), Reason: v.word("reason"), Formats: formats}
	labels := slices.DeleteFunc(slices.Clone(formats), func(one string) bool { return !slices.Contains(drawnFormats, one) })
	switch {
	case job && len(labels) == 0:
		labels = []string{"sheet"}
	case job && len(labels) > 1:
		faults["format"] = v.say("packages.job.one")
	}
	if len(labels) > 0 {
		wish.Drawing = v.drawing(slices.Contains(labels, "sheet"), faults)
	}
	for line := range strings.Lines(v.word("recipients")) { // line by line: an SSH key has blanks in it
		if line = strings.TrimSpace(line); line != "" {
			wish.Recipients = append(wish.Recipients, line)
		}
	}
	if v.wrong(faults) {
		return
	}
	if job {
		v.attach("application/yaml", fmt.Sprintf("labels-%d.yaml", batch))
		_, _ = v.w.Write(jobFile(batch, wish, labels[0]))
		return
	}
	made, err := v.api.MakePackage(v.ctx(), batch, wish)
	if !v.failed(err) {
		v.redirect(packagePage(made.ID) + "?done=package")
	}
}

// word is a field of the form without blanks around it.
func (v *visit) word(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }

// counted is a field with a number from 0 on, 0 where it is empty. What is wrong with it is added to faults.
func (v *visit) counted(name string, faults map[string]string) int64 {
	if v.word(name) == "" {
		return 0
	}
	n, err := strconv.ParseInt(v.word(name), 10, 32)
	if err != nil || n < 0 {
		faults[name] = v.say("packages.number.form")
	}
	return n
}

// drawing is how labels are drawn as the form says, also how they stand on sheets.
func (v *visit) drawing(sheets bool, faults map[string]string) *client.LabelDrawing {
	text, number := v.word, func(name string) int { return int(v.counted(name, faults)) }
	d := client.LabelDrawing{Kind: text("kind"), Module: text("module"), DPI: number("dpi"), Level: text("level"),
		LineHeight: text("line_height"), Beside: text("beside") != "", Colour: text("colour"), Background: text("background")}
	if text("quiet") != "" {
		d.Quiet = new(number("quiet"))
	}
	for line := range strings.Lines(text("lines")) {
		if line = strings.TrimSpace(line); line != "" {
			d.Lines = append(d.Lines, line)
		}
	}
	if !sheets {
		return &d
	}
	if d.Sheet = text("sheet"); d.Sheet == "" { // one that is bought says these itself
		d.Page = text("page")
		d.Columns, d.Rows = number("columns"), number("rows")
		d.Label, d.Pitch, d.Margin, d.Gap = text("label"), text("pitch"), text("margin"), text("gap")
	}
	d.StartAt, d.Offset = number("start_at"), text("offset")
	d.Footer, d.CropMarks = text("footer"), text("crop_marks") != ""
	return &d
}

// jobFile is what qrjump label reads: one word a line, each with a value of JSON, which YAML is too.
func jobFile(batch int64, wish client.PackageWish, format string) []byte {
	var b bytes.Buffer
	out := fmt.Sprintf("labels-%d.pdf", batch)
	fmt.Fprintf(&b, "batch: %d\nrange: \"%d-%d\"\n", batch, wish.From, wish.To)
	if format != "sheet" {
		out = fmt.Sprintf("labels-%d.%s", batch, cmp.Or(map[string]string{"zpl": "zpl", "epl": "epl"}[format], "zip"))
		fmt.Fprintf(&b, "format: %s\n", format)
	}
	fmt.Fprintf(&b, "out: %s\n", out)
	drawn := reflect.ValueOf(*wish.Drawing)
	for field, value := range drawn.Fields() {
		if value.IsZero() {
			continue
		}
		word, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if word == "lines" {
			word = "line" // as the flag is called
		}
		fmt.Fprintf(&b, "%s: ", word)
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(value.Interface()) // texts, numbers and flags
	}
	return b.Bytes()
}

func packagePage(id int64) string { return fmt.Sprintf("%s/packages/%d", Root, id) }

func (c *Console) onePackage(v *visit) {
	id, ok := v.packageID()
	if !ok {
		return
	}
	if one, err := v.api.Package(v.ctx(), id); !v.failed(err) {
		v.show(http.StatusOK, "package", one)
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
				v.refuse(http.StatusUnprocessableEntity, "ranges", v.say("packages.ranges.form"))
				return
			}
			ranges = append(ranges, client.CodeRange{From: from, To: to})
		}
		if len(ranges) == 0 {
			v.refuse(http.StatusUnprocessableEntity, "ranges", v.say("packages.ranges.form"))
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
