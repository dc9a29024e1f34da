package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// gs1Columns lists the columns of a CSV table of links, with one link per line. Fields of the key itself may be in any of the key's lines.
var gs1Columns = []string{"key", "owner", "wxa_appid", "wxa_path", "archived", "linktype", "href", "title", "hreflang", "type", "context",
	"default", "from", "until"}

// readGS1 parses a file of links: CSV if the file name ends in .csv or the first line names the column key, otherwise JSON lines, or YAML
// in the format of a seed file. An error gives the number of the line (JSON lines), of the key (CSV) or of the entry (YAML).
func readGS1(file string, text []byte) (list []digitallink.Entry, err error) {
	var rows []map[string]any
	var lines []int
	location := "line"
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	first, _, _ := bytes.Cut(text, []byte("\n"))
	header, _ := csv.NewReader(bytes.NewReader(first)).Read() // nil if the first line is not CSV
	n := 0
	for line := range bytes.Lines(text) {
		if n++; !utf8.Valid(line) {
			return nil, misused("gs1.file", file, fault("batch_serials.not_utf8", n))
		}
	}
	switch {
	case strings.HasSuffix(strings.ToLower(file), ".csv"), slices.Contains(header, "key"):
		if rows, err = gs1Table(text); err != nil {
			return nil, misused("gs1.file", file, err)
		}
		location = "key"
	case bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")):
		for i, line := range bytes.Split(text, []byte("\n")) {
			values := map[string]any{}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			if err := json.Unmarshal(line, &values); err != nil {
				return nil, misused("gs1.line", file, i+1, err)
			}
			rows, lines = append(rows, values), append(lines, i+1)
		}
	default:
		var seed struct {
			GS1 *[]map[string]any `json:"gs1"`
		}
		err := safeyaml.Check(text)
		if err == nil {
			err = yaml.Unmarshal(text, &seed)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, misused("gs1.file", file, safeyaml.Message(err))
		}
		if seed.GS1 == nil {
			return nil, misused("gs1.no_entries", file)
		}
		rows, location = *seed.GS1, "entry"
	}
	var faults []string
	seen := map[string]bool{}
	for i, values := range rows {
		e, err := digitallink.Parse(values)
		if err == nil && seen[e.Key] {
			err = fault("gs1.twice", e.Key)
		}
		if err != nil {
			number := i + 1
			if lines != nil {
				number = lines[i]
			}
			faults = append(faults, fmt.Sprintf("%s %d: %v", location, number, err))
		}
		seen[e.Key] = true
		list = append(list, e)
	}
	return list, faultsOf(file, faults)
}

// gs1Table parses a CSV table of links.
func gs1Table(text []byte) (list []map[string]any, err error) {
	table := csv.NewReader(bytes.NewReader(text))
	header, err := table.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !slices.Contains(header, "key") {
		return nil, fault("gs1.columns", strings.Join(gs1Columns, ","))
	}
	for i, name := range header {
		if !slices.Contains(gs1Columns, name) {
			return nil, fault("gs1.no_column", name, strings.Join(gs1Columns, ","))
		}
		if slices.Contains(header[:i], name) {
			return nil, fault("batch_serials.column_twice", name)
		}
	}
	values := map[string]map[string]any{}
	for {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		vs, link := map[string]any{}, map[string]any{}
		for i, name := range header {
			fields, value := link, any(strings.TrimSpace(row[i]))
			if slices.Index(gs1Columns, name) < slices.Index(gs1Columns, "linktype") {
				fields = vs
			}
			switch {
			case value == "":
				continue
			case name == "default" || name == "archived":
				if value, err = parseBool(row[i]); err != nil {
					line, _ := table.FieldPos(i)
					return nil, fault("gs1.no_bool", line, name, row[i])
				}
			case name == "hreflang" || name == "context":
				value = strings.Fields(row[i])
			}
			fields[name] = value
		}
		key := digitallink.KeyOf(fmt.Sprint(vs["key"]))
		if values[key] == nil {
			vs["links"], values[key] = []any{}, vs
			list = append(list, vs)
		}
		for name, value := range vs {
			if name != "links" {
				values[key][name] = value
			}
		}
		if len(link) > 0 {
			values[key]["links"] = append(values[key]["links"].([]any), link)
		}
	}
}

// parseBool parses a truth value as spreadsheets and people write it: true, TRUE, 1 or yes, and their opposites.
func parseBool(text string) (bool, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "yes" || text == "no" {
		return text == "yes", nil
	}
	return strconv.ParseBool(text)
}

// writeGS1Table writes entries as a CSV table that gs1Table can read.
func writeGS1Table(w io.Writer, list []client.GS1Entry) error {
	out := csv.NewWriter(w)
	err := out.Write(gs1Columns)
	moment := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	for _, e := range list {
		links := e.Links
		if len(links) == 0 {
			links = []client.GS1Link{{}}
		}
		for _, l := range links {
			if err == nil {
				err = out.Write([]string{e.Key, e.Owner, e.WxaAppID, e.WxaPath, textIf(e.Archived, "true"), l.LinkType, l.Href, l.Title,
					strings.Join(l.Hreflang, " "), l.Type, strings.Join(l.Context, " "), textIf(l.Default, "true"),
					moment(l.From), moment(l.Until)})
			}
		}
	}
	out.Flush()
	return errors.Join(err, out.Error())
}

type gs1Export struct {
	linesExport
	Output string `short:"o" enum:",ndjson,csv" default:"" placeholder:"ndjson|csv"`
}

// Run exports the links of all GS1 keys.
func (c *gs1Export) Run(s *session, qrjump *client.Client) error {
	if c.Output != "csv" && (c.Output != "" || !strings.EqualFold(filepath.Ext(c.File), ".csv")) {
		return c.write(s, "GS1 links", qrjump.GS1.Export)
	}
	list, err := everyGS1(s, qrjump, client.GS1Query{})
	if err != nil {
		return failed("export", "GS1 links", err)
	}
	if c.File == "-" {
		return writeGS1Table(s.out, list)
	}
	size, err := replaceFile(c.File, func(w io.Writer) error { return writeGS1Table(w, list) })
	if err == nil {
		_, err = printMsg(s.out, "gs1.exported", plain(c.File), counted(int(size), "byte"))
	}
	return err
}

// read reads and parses the file of links.
func (c *gs1Planned) read() ([]digitallink.Entry, error) {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, usageError(err.Error())
	}
	return readGS1(c.File, text)
}

// loadGS1 imports a list of entries into the server in one transaction.
func loadGS1(s *session, qrjump *client.Client, list []digitallink.Entry) error {
	var lines bytes.Buffer
	out := json.NewEncoder(&lines)
	for _, e := range list {
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	_, err := qrjump.GS1.Import(s.ctx, &lines, false)
	return err
}

// gs1Step is one of the changes that make the server's entries match the file.
type gs1Step struct {
	Do     string `json:"action"` // add, edit, delete
	Key    string `json:"key"`
	Reason string `json:"reason,omitempty"`

	entry    digitallink.Entry
	revision string
}

type gs1Steps struct {
	Steps []gs1Step `json:"steps"`
}

type gs1Planned struct {
	operator
	File  string `arg:"" file:"in"`
	Prune bool
}

// plan returns the changes that make the server match the file. With --prune, the plan also deletes an entry that is not in the file if the
// file has another entry with the same primary key.
func (c *gs1Planned) plan(s *session, qrjump *client.Client) (made gs1Steps, err error) {
	list, err := c.read()
	if err != nil {
		return made, err
	}
	have := map[string]client.GS1Entry{}
	all, err := everyGS1(s, qrjump, client.GS1Query{})
	if err != nil {
		return made, failed("list", "GS1 keys", err)
	}
	for _, e := range all {
		have[e.Key] = e
	}
	made.Steps = []gs1Step{}
	roots := map[string]bool{}
	for _, e := range list {
		roots[rootOf(e.Key)] = true
		storedEntry, known := have[e.Key]
		delete(have, e.Key)
		e.Owner = cmp.Or(e.Owner, storedEntry.Owner)
		switch changed := differing(e, storedEntry); {
		case !known:
			made.Steps = append(made.Steps, gs1Step{Do: "add", Key: e.Key, entry: e})
		case len(changed) > 0:
			made.Steps = append(made.Steps, gs1Step{Do: "edit", Key: e.Key, Reason: strings.Join(changed, ", "), entry: e})
		}
	}
	for _, e := range all {
		if _, left := have[e.Key]; left && c.Prune && roots[rootOf(e.Key)] {
			made.Steps = append(made.Steps, gs1Step{Do: "delete", Key: e.Key, Reason: tr("gs1.not_in_file"), revision: e.Revision})
		}
	}
	return made, nil
}

// rootOf returns the primary key, which is the first two parts of a GS1 key.
func rootOf(key string) string {
	parts := strings.SplitN(key, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// differing returns the names of the fields that differ between an entry of the file and the stored entry.
func differing(e digitallink.Entry, storedEntry client.GS1Entry) (names []string) {
	form := func(v any) map[string]any {
		text, _ := json.Marshal(v) // Strings, lists and times always marshal without an error.
		var all map[string]any
		_ = json.Unmarshal(text, &all)
		return all
	}
	for i := range e.Links {
		e.Links[i].From, e.Links[i].Until = inUTC(e.Links[i].From), inUTC(e.Links[i].Until)
	}
	storedEntry.Links = slices.Clone(storedEntry.Links)
	for i, l := range storedEntry.Links {
		storedEntry.Links[i].From, storedEntry.Links[i].Until = inUTC(l.From), inUTC(l.Until)
	}
	wanted, has := form(e), form(storedEntry.GS1Put)
	for _, name := range []string{"owner", "wxa_appid", "wxa_path", "links", "archived"} {
		if !reflect.DeepEqual(wanted[name], has[name]) {
			names = append(names, name)
		}
	}
	return names
}

// inUTC returns an optional time in UTC.
func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}

func (p gs1Steps) show(w io.Writer) {
	if len(p.Steps) == 0 {
		printMsg(w, "gs1.nothing_to_do")
		return
	}
	printRows(w, []string{"", "ACTION", "KEY", "REASON"}, p.Steps[:min(len(p.Steps), shownSteps)], func(step gs1Step) []string {
		return []string{marks[step.Do], localizeOr("did."+step.Do, step.Do), step.Key, step.Reason}
	})
	if left := len(p.Steps) - shownSteps; left > 0 {
		printMsg(w, "gs1.and_more", left)
	}
}

type gs1Plan struct {
	gs1Planned
	DetailedExitcode bool
}

// Run prints the changes that apply would make.
func (c *gs1Plan) Run(s *session, qrjump *client.Client) error {
	made, err := c.plan(s, qrjump)
	return planExit(c.DetailedExitcode, len(made.Steps) > 0, c.print(s, made, err, made.show))
}

type gs1Apply struct {
	gs1Planned
	confirmFlag
}

// Run makes the server match the file: it adds and edits entries in one transaction, and then deletes entries individually.
func (c *gs1Apply) Run(s *session, qrjump *client.Client) error {
	made, err := c.plan(s, qrjump)
	if err != nil {
		return err
	}
	var load []digitallink.Entry
	var gone []gs1Step
	for _, step := range made.Steps {
		if step.Do == "delete" {
			gone = append(gone, step)
		} else {
			load = append(load, step.entry)
		}
	}
	if len(gone) > 0 {
		if err := c.confirmed(s, tr("gs1.deletes", counted(len(gone), "GS1 key"))); err != nil {
			return err
		}
	}
	if len(load) > 0 {
		if err := loadGS1(s, qrjump, load); err != nil {
			return failed("apply", c.File, withInvalidLines(err))
		}
	}
	for i, step := range gone {
		if _, err := qrjump.GS1.Delete(client.IfMatch(s.ctx, step.revision), step.Key); err != nil {
			return fault("gs1.deleted_some", i, len(gone), step.Key, describeConflict("qrjump gs1 list "+shellWord(step.Key), err))
		}
	}
	return c.print(s, made, nil, func(w io.Writer) {
		made.show(w)
		if len(made.Steps) > 0 {
			printMsg(w, "gs1.done", counted(len(made.Steps), "step"))
		}
	})
}
