package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/print/labels"
)

// drawnFormats lists the formats of drawn labels.
var drawnFormats = []string{"sheet", "png", "svg", "pdf", "eps", "zpl", "tspl"}

// labelFields lists layout fields of all labels; pageFields lists the fields for labels on sheets. The names are those of the admin API.
const (
	labelFields = "module dpi quiet line_height colour background"
	pageFields  = "sheet start_at offset page columns rows label pitch margin gap footer"
)

type packagesView struct {
	Packages        []client.Package
	Signer          client.PackageSigner
	Form            packageForm
	Plan            *client.LabelPlan // the plan for the form's values; nil = no preview was requested
	UnsupportedKeys []string          // keys of a job file that have no field in the form
}

// packageForm contains the initial values of the package form.
type packageForm struct {
	Batch  int64  `json:"batch"`
	From   *int64 `json:"from"`
	To     *int64 `json:"to"`
	Spare  int64  `json:"spare"`
	Proofs int64  `json:"proofs"`
	client.PackageRequest
	Layout client.LabelDrawing
}

// LabelWords returns words for view.Fields: the layout fields of all labels. PageWords returns words for labels on sheets.
func (packageForm) LabelWords() string { return drawn(labelFields) }
func (packageForm) PageWords() string  { return drawn(pageFields) }

func drawn(names string) (words string) {
	for name := range strings.FieldsSeq(names) {
		words += " packages.draw." + name + "=" + name + ",max=200,plain"
	}
	return words
}

// usual is the default layout of labels.
var usual = client.LabelDrawing{DPI: 300, Module: "0.4mm", LineHeight: "2mm", Page: "a4", Columns: 4, Rows: 10, Margin: "10mm",
	Gap: "0mm", StartAt: 1}

func (pages codePages) showPackages(v *request, data packagesView) error {
	data.Form = packageForm{Layout: usual}
	wanted := client.PackageQuery{Account: v.narrowed("account"), Limit: pageRows}
	wrong := cmp.Or(v.query(&data.Form, "batch"), v.query(&wanted, "after pending"))
	wanted.ApplicationID = data.Form.Batch
	err := cmp.Or(wrong, storeResult(&data.Packages)(v.api.Packages.List(v.ctx(), wanted)),
		storeResult(&data.Signer)(v.api.Packages.GetSigner(v.ctx())))
	return v.page("packages", data, err)
}

// makePackage creates a package of codes for a printer, shows a preview, or sends a job file with which "qrjump label" prints the labels.
func (pages codePages) makePackage(v *request) error {
	switch v.r.FormValue("did") {
	case "plan":
		return pages.planPackage(v, nil)
	case "job":
		batch, wish, err := pages.packageWish(v, "batch", "from", "to")
		if err != nil {
			return err
		}
		return v.attach("application/yaml", fmt.Sprintf("labels-%d.yaml", batch), jobFile(batch, wish), nil)
	}
	batch, wish, err := pages.packageWish(v, "batch", "from", "to", "printer")
	if err != nil {
		return err
	}
	made, err := v.api.Packages.Create(v.ctx(), batch, wish)
	return v.done(packagePage(made.ID)+"?done=package", err)
}

// packageWish parses the form; if a job file or a preview is requested without a label format, the format is labels on sheets. If the form
// is invalid, packageWish shows an error page.
func (pages codePages) packageWish(v *request, wanted ...string) (batch int64, wish client.PackageRequest, err error) {
	faults := map[string]string{}
	for _, name := range wanted {
		if v.word(name) == "" {
			faults[name] = v.say("packages.wanted")
		}
	}
	var form packageForm
	maps.Copy(faults, v.decode(&form, "batch from to spare proofs printer reason"))
	formats := v.r.PostForm["format"]
	wish = client.PackageRequest{Spare: form.Spare, Proofs: form.Proofs, Printer: form.Printer, Reason: form.Reason, Formats: formats}
	if form.From != nil && form.To != nil {
		wish.From, wish.To = *form.From, *form.To
	}
	drawn := slices.DeleteFunc(slices.Clone(formats), func(item string) bool { return !slices.Contains(drawnFormats, item) })
	if !slices.Contains(wanted, "printer") {
		switch len(drawn) {
		case 0:
			drawn = []string{"sheet"}
		case 1:
		default:
			faults["format"] = v.say("packages.job.one")
		}
		wish.Formats = drawn
	}
	if len(drawn) > 0 {
		wish.Drawing = pages.drawing(v, slices.Contains(drawn, "sheet"), faults)
	}
	wish.Recipients = linesOf(v.word("recipients")) // an SSH key contains spaces
	return form.Batch, wish, v.showInvalid(faults)
}

// planPackage shows the submitted form with a preview of its labels.
func (pages codePages) planPackage(v *request, left []string) error {
	batch, wish, err := pages.packageWish(v, "batch", "from", "to")
	if err != nil {
		return err
	}
	wish.DryRun = true
	planned, err := v.api.Packages.Create(v.ctx(), batch, wish)
	if err != nil {
		return err
	}
	v.rejected = newRejectedForm(v.r, nil) // the form keeps the typed values
	return pages.showPackages(v, packagesView{Plan: planned.Plan, UnsupportedKeys: left})
}

// maxJob is the maximum size in bytes of a job file, which normally has about thirty lines.
const maxJob = 64 << 10

// readJob fills the form from an uploaded job file and shows the preview. Decision 72.
func (pages codePages) readJob(v *request) error {
	text, err := v.upload("job", "text", maxJob, v.say("packages.job.large", maxJob>>10))
	if err != nil {
		return err
	}
	words, err := labels.ReadJob("", []byte(text))
	empty, is := errors.AsType[*labels.EmptyWordError](err)
	switch {
	case is:
		return v.fail(http.StatusUnprocessableEntity, v.say("packages.job.empty", empty.Name))
	case errors.Is(err, labels.ErrNoWords):
		return v.reject("packages.job.none")
	case err != nil:
		return v.fail(http.StatusUnprocessableEntity, v.say("packages.job.unread", strings.TrimPrefix(err.Error(), ":")))
	}
	form, left := url.Values{"did": {"plan"}, "format": {"sheet"}, "lines": {""}}, []string(nil)
	for name := range strings.FieldsSeq(labelFields + " " + pageFields + " from to") {
		form.Set(name, "")
	}
	for _, w := range words {
		if !fillJob(form, w) {
			left = append(left, w.Name)
		}
	}
	v.r.Form, v.r.PostForm, v.r.MultipartForm = form, form, nil
	v.r.URL.Path = Root + "/packages" // the form, prefilled from the job file, is submitted to this path
	if id, err := strconv.ParseInt(form.Get("batch"), 10, 64); err == nil && form.Get("from") == "" {
		fullBatch, err := v.api.Batches.Get(v.ctx(), id)
		if err != nil {
			return err
		}
		form.Set("from", "0")
		form.Set("to", strconv.FormatInt(fullBatch.Count-1, 10))
	}
	return pages.planPackage(v, left)
}

// word returns a form field without surrounding spaces.
func (v *request) word(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }

// linesOf returns the lines of a text without surrounding spaces and without empty lines.
func linesOf(text string) (list []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// drawing returns the label layout of the form, including positions on sheets if sheets is true.
func (pages codePages) drawing(v *request, sheets bool, faults map[string]string) *client.LabelDrawing {
	var d client.LabelDrawing
	names := labelFields + " kind rectangular level text_position"
	switch {
	case !sheets:
	case v.word("sheet") != "": // a named commercial sheet itself defines the page, the columns, the rows and the label size
		names += " sheet start_at offset footer crop_marks"
	default:
		names += " crop_marks " + pageFields
	}
	maps.Copy(faults, v.decode(&d, names))
	d.Lines = linesOf(v.word("lines"))
	return &d
}

// jobFile returns a job file for the command "qrjump label": one YAML line per key, with the value in JSON.
func jobFile(batch int64, wish client.PackageRequest) []byte {
	var b bytes.Buffer
	format := wish.Formats[0]
	out := fmt.Sprintf("labels-%d.pdf", batch)
	fmt.Fprintf(&b, "batch: %d\nrange: \"%d-%d\"\n", batch, wish.From, wish.To)
	if format != "sheet" {
		out = fmt.Sprintf("labels-%d.%s", batch, cmp.Or(map[string]string{"zpl": "zpl", "tspl": "tspl"}[format], "zip"))
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
			word = "line" // the name of the command-line flag
		}
		fmt.Fprintf(&b, "%s: ", word)
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(value.Interface()) // encoding strings, numbers and booleans cannot fail
	}
	return b.Bytes()
}

// fillJob stores an entry of a job file in the matching form field and reports whether the form can express the entry. For the range "all",
// the fields "from" and "to" stay empty.
func fillJob(form url.Values, w labels.Field) bool {
	value, name := strings.Join(w.Values, "\n"), strings.ReplaceAll(w.Name, "-", "_")
	switch {
	case name == "out":
	case name == "format":
		form.Set(name, strings.Replace(value, "pages", "sheet", 1))
	case name == "line":
		form.Set("lines", value)
	case name == "range":
		if value == "all" {
			return true
		}
		from, to, single := strings.Cut(value, "-")
		if !single {
			to = from
		}
		if len(w.Values) > 1 {
			from, to = strings.Join(w.Values, " "), "" // the form has a single range, so several ranges are shown as an invalid value
		}
		form.Set("from", from)
		form.Set("to", to)
	case name == "text_position" && value == "below":
	case name == "crop_marks" || name == "rectangular":
		if value == "true" {
			form.Set(name, "1")
		}
	case slices.Contains(strings.Fields("batch kind text_position level "+labelFields+" "+pageFields), name):
		form.Set(name, value)
	default:
		return false
	}
	return true
}

func packagePage(id int64) string { return fmt.Sprintf("%s/packages/%d", Root, id) }

func (pages codePages) onePackage(v *request, id int64) error {
	item, err := v.api.Packages.Get(v.ctx(), id)
	return v.page("package", item, err)
}

// changePackage recalls a package, or records which codes of the package the printer destroyed.
func (pages codePages) changePackage(v *request, id int64) error {
	name, note := v.r.PathValue("package"), v.word("note")
	var ranges []client.CodeRange
	invalid := false
	for _, word := range listed(v.r.FormValue("ranges")) {
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			last = first
		}
		from, wrong := strconv.ParseInt(first, 10, 64)
		to, bad := strconv.ParseInt(last, 10, 64)
		invalid, ranges = invalid || wrong != nil || bad != nil, append(ranges, client.CodeRange{From: from, To: to})
	}
	if v.r.FormValue("did") == "spoil" && (invalid || len(ranges) == 0) {
		return v.refuse(http.StatusUnprocessableEntity, "ranges", v.say("packages.ranges.form"))
	}
	return v.perform(packagePage(id)+"?done=package", map[string]action{
		"recall": {"sure.recall", name, func() error { return onlyError(v.api.Packages.Recall(v.ctx(), id, note, "")) }},
		"spoil":  {"sure.spoil", name, func() error { return onlyError(v.api.Packages.VoidCodes(v.ctx(), id, ranges, note, "")) }},
	})
}

// sendPackage sends the file of a package, also again after an interrupted download. The download is a form submission instead of a
// link, because each download is recorded.
func (pages codePages) sendPackage(v *request) error {
	wish := map[string]string{}
	if words := v.r.FormValue("passphrase"); words != "" {
		wish["passphrase"] = words
	}
	body, err := json.Marshal(wish)
	if err != nil {
		return err
	}
	return v.forward("POST", "/packages/"+url.PathEscape(v.r.PathValue("package"))+"/file", "application/json", bytes.NewReader(body))
}
