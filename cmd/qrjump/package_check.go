package main

import (
	"bufio"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/print/printpackage"
)

type packageCheck struct {
	outputFlags
	Job       string   `arg:"" file:"in"`
	Log       []string `arg:"" name:"log" file:"in,self"`
	Column    string   `placeholder:"NAME|N"`
	Separator string   `default:"," placeholder:"CHAR"`
	NoRead    string   `default:"NOREAD" placeholder:"TEXT"`
	Spoiled   []string `sep:"," placeholder:"RANGES"`
	Reprinted []string `sep:"," placeholder:"RANGES"`
	Follow    bool
}

// Run checks the scanner logs of a printing run against the codes of the package. Run exits with code 6 if a code is missing,
// duplicate, spoiled or foreign.
func (c *packageCheck) Run(s *session) error {
	job, err := openJob(c.Job)
	if err != nil {
		return err
	}
	run := printpackage.NewRun(job)
	run.NoRead = c.NoRead
	if run.Spoiled, err = codeSet("--spoiled", c.Spoiled); err != nil {
		return err
	}
	if run.Reprinted, err = codeSet("--reprinted", c.Reprinted); err != nil {
		return err
	}
	if c.Follow && c.isJSON() {
		return misused("package_check.live_says_a_line_a")
	}
	for _, log := range c.Log {
		if err := c.read(s, run, log); err != nil {
			return err
		}
	}
	report := run.Report()
	report.Hint = columnHint(report, c.Column)
	if !c.Follow {
		if err := c.print(s, report, nil, func(w io.Writer) { printRun(w, report) }); err != nil {
			return err
		}
	}
	if !report.Clean() {
		return different("package_check.package", report.Package, summary(report))
	}
	return nil
}

// openJob reads a package's line file, with which a printing line recognises the codes; path is the line file or its folder.
func openJob(path string) (*printpackage.Job, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, absent(err)
	}
	if info.IsDir() {
		path = filepath.Join(path, printpackage.LineName)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, absent(err)
	}
	defer f.Close()
	job, err := printpackage.ReadLine(f)
	if err != nil {
		return nil, fault("package_check.read", plain(path), aboutFile(err))
	}
	return job, nil
}

func codeSet(flag string, texts []string) (codes.Set, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	var list []codes.Range
	for _, text := range texts {
		r, all, err := parseRange([]string{text})
		if err != nil || all {
			return nil, misused("package_check.want_an_index_5_or", flag, text)
		}
		list = append(list, codes.Range(r))
	}
	return codes.NewSet(list...), nil
}

// read checks each code in a scanner log.
func (c *packageCheck) read(s *session, run *printpackage.Run, log string) error {
	file, err := s.openInput(log)
	if err != nil {
		return absent(err)
	}
	defer file.Close()
	in := asUTF8(file)
	judge := func(read string) error {
		v, index := run.Read(strings.TrimSpace(read))
		if !c.Follow {
			return s.ctx.Err()
		}
		line := string(v)
		if index >= 0 {
			line += " " + number(index)
		}
		_, err := fmt.Fprintln(s.out, line)
		return errors.Join(err, s.ctx.Err())
	}
	if c.Column == "" {
		err = eachLine(in, judge)
	} else {
		err = c.eachCell(in, judge)
	}
	if err != nil {
		return fault("package_check.read", plain(log), err)
	}
	return nil
}

// asUTF8 converts a text to UTF-8 from UTF-8 or UTF-16, with or without a byte order mark.
func asUTF8(in io.Reader) io.Reader {
	b := bufio.NewReader(in)
	head, _ := b.Peek(3) // the error is ignored: a text may have fewer than 3 bytes, and a read error occurs again later
	switch {
	case string(head) == "\ufeff":
		_, _ = b.Discard(3)
	case len(head) >= 2 && (head[0] == 0xfe && head[1] == 0xff || head[0] == 0 && head[1] != 0):
		return &fromUTF16{in: b, order: binary.BigEndian}
	case len(head) >= 2 && (head[0] == 0xff && head[1] == 0xfe || head[0] != 0 && head[1] == 0):
		return &fromUTF16{in: b, order: binary.LittleEndian}
	}
	return b
}

// fromUTF16 converts UTF-16 to UTF-8 without byte order marks. Surrogate pairs become replacement characters, because codes contain
// no surrogate pairs.
type fromUTF16 struct {
	in    *bufio.Reader
	order binary.ByteOrder
	left  []byte
}

func (f *fromUTF16) Read(p []byte) (int, error) {
	for len(f.left) == 0 {
		var unit [2]byte
		if _, err := io.ReadFull(f.in, unit[:]); err != nil {
			return 0, err
		}
		if c := rune(f.order.Uint16(unit[:])); c != 0xfeff {
			f.left = utf8.AppendRune(nil, c)
		}
	}
	n := copy(p, f.left)
	f.left = f.left[n:]
	return n, nil
}

// columnHint returns a hint if no scanned text is a code of the package, which usually means that the wrong column was read; otherwise
// columnHint returns "".
func columnHint(r printpackage.Report, column string) string {
	if r.Read > 0 || r.Count[printpackage.Proof] > 0 || len(r.Found.Foreign) == 0 {
		return ""
	}
	first := r.Found.Foreign[0].Read
	hint := tr("package_check.no_read_is_a_code", first)
	switch {
	case column == "" && strings.ContainsAny(first, ",;\t"):
		return hint + tr("package_check.it_looks_like_a_line")
	case strings.ContainsFunc(first, func(c rune) bool { return c == utf8.RuneError || c < ' ' }):
		return hint + tr("package_check.it_has_bytes_that_no")
	}
	return hint + tr("package_check.check_log")
}

func eachLine(in io.Reader, f func(string) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<16)
	for lines.Scan() {
		if err := f(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// eachCell calls f for each cell of one column of a table.
func (c *packageCheck) eachCell(in io.Reader, f func(string) error) error {
	comma, size := utf8.DecodeRuneInString(c.Separator)
	if c.Separator == "tab" {
		comma, size = '\t', len(c.Separator)
	}
	if size != len(c.Separator) {
		return misused("package_check.separator_want_one_character_or", c.Separator)
	}
	table := csv.NewReader(in)
	table.Comma, table.ReuseRecord, table.FieldsPerRecord = comma, true, -1
	column := -1
	if n, err := strconv.Atoi(c.Column); err == nil {
		if n < 1 {
			return misused("package_check.column_the_first_one_is", n)
		}
		column = n - 1
	}
	for {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if column < 0 {
			if column = slices.Index(row, c.Column); column < 0 {
				return misused("package_check.column_the_first_line_has", c.Column, strings.Join(row, ", "))
			}
			continue
		}
		if column >= len(row) {
			line, _ := table.FieldPos(0)
			return fault("package_check.line_has_and_the_read", line, counted(len(row), "column"), column+1)
		}
		if err := f(row[column]); err != nil {
			return err
		}
	}
}

// summary returns the problems of a printing run in one line.
func summary(r printpackage.Report) string {
	part := func(n int64, noun string) string { return textIf(n > 0, fmt.Sprintf("%d %s", n, noun)) }
	return joined(", ", part(r.MissingCodes, "missing"), part(r.Count[printpackage.Double], "double"),
		part(r.Count[printpackage.Foreign], "foreign"), part(r.Count[printpackage.Spoiled], "spoiled"),
		part(r.Count[printpackage.Proof], "proof"), textIf(r.OverRun > 0, tr("package_check.an_over_run_of", r.OverRun)))
}

func printRun(w io.Writer, r printpackage.Report) {
	fields := [][2]string{{"package", tr("package_check.of_application", r.Package, r.ApplicationID)},
		{"lines", fmt.Sprint(r.Lines)}, {"ordered", countedCodes(r.Codes)}, {"read", fmt.Sprint(r.Read)},
		{"spare used", fmt.Sprint(r.SpareUsed)}, {"reprints", fmt.Sprint(r.Count[printpackage.Reprint])},
		{"unread", fmt.Sprint(r.Count[printpackage.Unread])}, {"false reads", fmt.Sprintf("%.1g", r.FalseRate)}}
	printFields(w, fields...)
	const shown = 20
	if r.MissingCodes > 0 {
		first := r.Missing[:min(shown, len(r.Missing))]
		texts := mapped(first, func(m codes.Range) string { return rangeText(client.CodeRange(m)) })
		if len(r.Missing) > shown {
			texts = append(texts, tr("package_check.json_has_all"))
		}
		printMsg(w, "package_check.missing", countedCodes(r.MissingCodes), strings.Join(texts, ", "))
	}
	rows := [][]string{}
	for _, entry := range []struct {
		v    printpackage.Verdict
		list []printpackage.Finding
	}{{printpackage.Double, r.Found.Double}, {printpackage.Spoiled, r.Found.Spoiled}, {printpackage.Proof, r.Found.Proof},
		{printpackage.Foreign, r.Found.Foreign}} {
		for i, f := range entry.list {
			if i == shown {
				rows = append(rows, []string{"…", string(entry.v), tr("package_check.json_has_all_2"), ""})
				break
			}
			index := ""
			if f.Index != nil {
				index = number(*f.Index)
			}
			rows = append(rows, []string{number(f.Line), string(entry.v), orDash(index), orDash(f.Read)})
		}
	}
	if r.Hint != "" {
		fmt.Fprintf(w, "\n%s\n", r.Hint)
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		printTable(w, []string{"LINE", "RESULT", "CODE", "READ"}, rows)
	}
}
