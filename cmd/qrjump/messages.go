package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/rivo/uniseg"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/errortext"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// outputLanguage is the language of the text output; JSON output is always in English. A process runs a single command, which sets the
// variable at its start. Decision 71.
var outputLanguage reader

// tr returns a text of the message catalogue in the reader's language.
func tr(key string, values ...any) string { return outputLanguage.msg(msg(key, values...)) }

// localizeOr translates a word from a server: it returns the text of the message catalogue, or peer if the key does not exist or names a
// text with arguments, as a word of another version may.
func localizeOr(key, peer string) string {
	text, err := catalog.In(outputLanguage.language()).Say(key)
	if err != nil {
		return peer
	}
	return text
}

// printMsg prints a text of the message catalogue as a line.
func printMsg(w io.Writer, key string, values ...any) (int, error) {
	return fmt.Fprintln(w, tr(key, values...))
}

// fault returns an error with a text of the message catalogue. Errors among the values are wrapped, so that errors.Is finds them.
func fault(key string, values ...any) error {
	for i, value := range values {
		if err, is := value.(error); is {
			values[i] = inReader(err)
		}
	}
	return catalog.In(outputLanguage.language()).Errorf(key, values...)
}

// wrapped is like fault, for an error that may be nil: it returns nil if the last value is nil.
func wrapped(key string, values ...any) error {
	if values[len(values)-1] == nil {
		return nil
	}
	return fault(key, values...)
}

// misused returns an error in the command line, with exit code 2.
func misused(key string, values ...any) error { return usageError(fault(key, values...).Error()) }

// constant is an error that can be a package-level variable: a message key, whose text is looked up when the error is printed.
type constant string

func (c constant) Error() string { return tr(string(c)) }

// refused wraps an error of a server or a package, with its text translated to the reader's language.
type refused struct {
	error
	text string
}

func (r refused) Error() string { return r.text }
func (r refused) Unwrap() error { return r.error }

// inReader translates an error to the reader's language, if internal/infra/errortext knows the error.
func inReader(err error) error {
	if err == nil || outputLanguage.language() == i18n.English {
		return err
	}
	english := err.Error()
	if u, ok := errors.AsType[*client.Unreachable](err); ok && english == u.Error() {
		return refused{err, tr("doctor.no_answer", u.URL, u.Err)}
	}
	if w, ok := errors.AsType[*client.WrongServer](err); ok && english == w.Error() {
		status, flaw, _ := strings.Cut(w.Reason, ": ")
		return refused{err, tr("reach.wrong_server", w.Call, w.URL, errortext.In(outputLanguage.language(), "the "+w.API), status,
			errortext.In(outputLanguage.language(), flaw))}
	}
	// An admin API error begins with its status, as in "404 there is no account wx1".
	if status, rest, ok := strings.Cut(english, " "); ok && len(status) == 3 && status[0] >= '4' && status[0] <= '5' {
		if says := errortext.In(outputLanguage.language(), rest); says != rest {
			return refused{err, status + " " + says}
		}
	}
	if says := errortext.In(outputLanguage.language(), english); says != english {
		return refused{err, says}
	}
	// An error in a file begins with its position, as in "rules.yaml:3: prefix is missing".
	if place, rest, ok := strings.Cut(english, ": "); ok {
		if says := errortext.In(outputLanguage.language(), rest); says != rest {
			return refused{err, place + "：" + says}
		}
	}
	return err
}

// inColumn pads a text with spaces to a display width; a Chinese character is two columns wide.
func inColumn(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-uniseg.StringWidth(text)))
}

// columns formats rows as lines with aligned cells, two spaces apart.
func columns(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	var lines strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(inColumn(cell, widths[i]+2))
		}
		lines.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return lines.String()
}

// printTable writes a header and rows in aligned columns. The message catalogue contains the header texts under head.NAME.
func printTable(w io.Writer, heads []string, rows [][]string) {
	all := [][]string{}
	if !withoutHeads {
		all = append(all, mapped(heads, func(head string) string { return localizeOr("head."+head, head) }))
	}
	for _, row := range rows {
		all = append(all, mapped(row, plain))
	}
	_, _ = io.WriteString(w, columns(all)) // the writer keeps the error, and the command reports it at the end
}

// printFields writes pairs of name and value; it omits empty values. The message catalogue contains the names under field.NAME.
func printFields(w io.Writer, pairs ...[2]string) {
	var rows [][]string
	for _, p := range pairs {
		if p[1] != "" {
			rows = append(rows, []string{localizeOr("field."+p[0], p[0]), plain(p[1])})
		}
	}
	_, _ = io.WriteString(w, columns(rows))
}

func yesNo(b bool) string { return textOr(b, tr("word.yes"), tr("word.no")) }

// textIf returns text if is is true, and otherwise "".
func textIf(is bool, text string) string { return textOr(is, text, "") }

// textOr returns text if is is true, and otherwise fallback.
func textOr(is bool, text, fallback string) string {
	if is {
		return text
	}
	return fallback
}

// assign sets a field to the value of a flag; a flag that is not set (nil) leaves the field unchanged.
func assign[T any](field, flag *T) {
	if flag != nil {
		*field = *flag
	}
}

// counted returns a number with its noun in the correct grammatical form.
func counted(n int, noun string) string { return tr("count."+noun, n) }

// didYouMean returns a question that suggests the valid name nearest to an invalid one, or "" if no valid name is similar.
func didYouMean(wrong string, right ...string) string {
	if meant := suggest.Nearest(wrong, right...); meant != "" {
		return tr("report.did_you_mean", meant)
	}
	return ""
}

// parsing lists the error messages of the argument parser with the keys of their translations.
var parsing = []struct {
	words *regexp.Regexp
	key   string
}{
	{regexp.MustCompile(`^unexpected argument (.*?)(?:, did you mean (.*)\?)?$`), "parse.argument"},
	{regexp.MustCompile(`^unknown flag (.*?)(?:, did you mean (.*)\?)?$`), "parse.flag"},
	{regexp.MustCompile(`^expected (?:one of )?(.*)$`), "parse.expected"},
	{regexp.MustCompile(`^missing flags?: (.*)$`), "parse.missing"},
	{regexp.MustCompile(`^(\S+) must be one of (.*) but got (.*)$`), "parse.one_of"},
	{regexp.MustCompile(`^(\S+) and (\S+) can't be used together$`), "parse.together"},
	{regexp.MustCompile(`^(\S+): (.*)$`), "parse.value"},
}

// oneOf matches the parser's error about a value that is not in the list of allowed values.
var oneOf = regexp.MustCompile(`must be one of (.*) but got "(.*)"$`)

// inParsing translates an error of the argument parser to the reader's language.
func inParsing(err error) string {
	english := err.Error()
	if outputLanguage.language() == i18n.English {
		return english
	}
	for _, entry := range parsing {
		found := entry.words.FindStringSubmatch(english)
		switch {
		case found == nil:
		case len(found) == 3 && (entry.key == "parse.argument" || entry.key == "parse.flag"):
			word := strings.NewReplacer(`"`, "", "one of ", "").Replace(found[2])
			meant := textIf(found[2] != "", tr("report.did_you_mean", word))
			return tr(entry.key, found[1], meant)
		default:
			return tr(entry.key, mapped(found[1:], func(part string) any { return part })...)
		}
	}
	return inReader(errors.New(english)).Error()
}
