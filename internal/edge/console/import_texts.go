package console

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// textList is an uploaded list of code texts.
type textList struct {
	first  int64 // number of the first line
	count  int64
	lines  strings.Builder
	faults map[string]string // error messages by line, at most accounts.MaxFaults
}

// readTexts reads a list, and checks each text.
func (v *request) readTexts(checker *codes.TextChecker, list, column string) *textList {
	read, numbers := &textList{faults: map[string]string{}}, []int64{}
	fault := func(err error) {
		wrong, _ := errors.AsType[accounts.RowErrors](err)
		for _, row := range wrong {
			read.faults[fmt.Sprint("line ", row.Line)] = v.say("texts.line", fmt.Sprint(row.Line), v.Reason(row.Reason))
		}
	}
	for text, err := range codes.ImportTexts(strings.NewReader(list), column, 1) {
		if err == nil {
			err = codes.FaultOfLine(text.Number, checker.Add(text.Text))
		}
		if fault(err); err != nil && len(read.faults) == accounts.MaxFaults {
			return read
		}
		numbers = append(numbers, text.Number)
		read.lines.WriteString(text.Text + "\n")
	}
	if read.count = int64(len(numbers)); read.count > 0 {
		read.first = numbers[0]
	}
	if first, second, found := checker.Duplicate(); found && len(read.faults) == 0 {
		read.faults[""] = v.say("texts.line", fmt.Sprint(numbers[second]), v.say("texts.twice", numbers[first]))
	}
	return read
}

// importTexts imports a list of texts of another system as a new application; either all texts or none. Larger lists are imported with the
// command line.
func (pages codePages) importTexts(v *request) error {
	list, err := v.upload("file", "list", maxBulk, v.say("bulk.large"))
	if err != nil {
		return err
	}
	var put client.NewImport
	faults := v.decode(&put, "isv_application_id text")
	account, ctx := strings.TrimSpace(v.r.FormValue("account")), v.ctx()
	for name, typed := range map[string]string{"account": account, "isv_application_id": put.ISV, "text": put.Text, "list": list} {
		if typed == "" {
			faults[name] = v.say("packages.wanted")
		}
	}
	checker, err := codes.NewTextChecker(put.Text, codes.TemplateValues{})
	if err != nil && put.Text != "" {
		faults["text"] = v.Reason(err.Error())
	}
	if err := v.showInvalid(faults); err != nil {
		return err
	}
	read := v.readTexts(checker, list, strings.TrimSpace(v.r.FormValue("column")))
	if len(read.faults) == 0 && (read.count == 0 || read.count > client.MaxImportLines) {
		read.faults["list"] = v.say("texts.count", client.MaxImportLines)
	}
	if err := v.showInvalid(read.faults); err != nil {
		return err
	}
	put.Count = read.count
	b, err := v.api.Batches.CreateImport(ctx, account, put)
	if err != nil {
		return err
	}
	_, err = v.api.Batches.ImportCodes(ctx, b.ID, client.CodeImportQuery{Line: read.first}, strings.NewReader(read.lines.String()))
	if said, is := mendable(err); is && b.Arrived == 0 {
		undo := client.ImportToUndo{To: b.Count - 1, Note: v.say("texts.refused")}
		if _, failed := v.api.Batches.UndoImport(ctx, b.ID, undo); failed != nil {
			return failed
		}
		for _, line := range said.Errors {
			read.faults[line.Location] = v.say("texts.line", strings.TrimPrefix(line.Location, "line "), v.Reason(line.Message))
		}
		err = cmp.Or(v.showInvalid(read.faults), err)
	}
	return v.done(fmt.Sprintf("%s/codes/%d?done=texts", Root, b.ID), err)
}
