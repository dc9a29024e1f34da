package main

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/qrjump/qrjump/client"
)

type batchSerials struct {
	operator
	ID      int64  `arg:"" name:"id"`
	File    string `arg:"" file:"in,self"`
	Replace bool
	Actor   string `placeholder:"WHO"`
}

// Run binds serial numbers to codes, several thousand per call. Binding is idempotent, so an interrupted run can be repeated.
func (c *batchSerials) Run(s *session, qrjump *client.Client) error {
	in, err := s.openInput(c.File)
	if err != nil {
		return absent(err)
	}
	defer in.Close()
	next, err := serialRows(in)
	if err != nil {
		return err
	}
	var bound, changed int64
	for {
		var bindings []client.SerialBinding
		bindings, err = next()
		if err != nil {
			return fault("batch_serials.read_after", plain(c.File), counted(int(bound), "serial number"), err)
		}
		if len(bindings) == 0 {
			break
		}
		done, err := qrjump.Codes.BindSerials(s.ctx, c.ID, bindings, c.Replace, c.Actor)
		if err != nil {
			return aboutStored(s, qrjump, tr("batch_serials.bind_serial_numbers_are_of", bound), c.ID, err)
		}
		bound += done.Codes
		changed += done.Changed
	}
	return c.print(s, map[string]any{"application_id": c.ID, "serials": bound, "changed": changed}, nil, func(w io.Writer) {
		printMsg(w, "batch_serials.bound_of_of_them_new", counted(int(bound), "serial number"), c.ID, changed)
	})
}

// serialsAtOnce is the number of serial numbers per call; it keeps each request body below the admin API's limit of 1 MiB.
const serialsAtOnce = 3000

// serialRows reads the header of a CSV file, and returns a function that reads the next rows.
func serialRows(in io.Reader) (next func() ([]client.SerialBinding, error), err error) {
	table := csv.NewReader(in)
	table.ReuseRecord = true
	header, err := table.Read()
	if err != nil {
		return nil, misused("batch_serials.the_file_has_no_first")
	}
	header = slices.Clone(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // spreadsheets write a byte order mark
	serial, column := slices.Index(header, "serial"), ""
	for _, name := range []string{"index", "text", "code"} {
		if column == "" && slices.Contains(header, name) {
			column = name
		}
	}
	if serial < 0 || column == "" {
		return nil, misused("batch_serials.the_first_line_names_the", strings.Join(header, ", "))
	}
	pos := slices.Index(header, column)
	for i, name := range header {
		if i > slices.Index(header, name) && (name == "serial" || name == column) {
			return nil, misused("batch_serials.column_twice", name)
		}
	}
	return func() (bindings []client.SerialBinding, err error) {
		for len(bindings) < serialsAtOnce {
			row, err := table.Read()
			if errors.Is(err, io.EOF) {
				return bindings, nil
			}
			if err != nil {
				return nil, err
			}
			for _, i := range []int{serial, pos} {
				if line, _ := table.FieldPos(i); !utf8.ValidString(row[i]) {
					return nil, fault("batch_serials.not_utf8", line)
				}
			}
			binding := client.SerialBinding{Serial: row[serial]}
			switch column {
			case "text":
				binding.CodeURL = row[pos]
			case "code":
				binding.Code = row[pos]
			default:
				index, err := strconv.ParseInt(row[pos], 10, 64)
				if err != nil || index < 0 {
					line, _ := table.FieldPos(pos)
					return nil, fault("batch_serials.line_is_no_index", line, row[pos])
				}
				binding.Index = &index
			}
			bindings = append(bindings, binding)
		}
		return bindings, nil
	}, nil
}
