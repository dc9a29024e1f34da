package main

import (
	"encoding/csv"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type batchSerials struct {
	operator
	ID      int64  `arg:"" name:"id"`
	File    string `arg:"" file:"in,self"`
	Replace bool
	Actor   string `placeholder:"WHO"`
}

// Run binds serial numbers, some thousands a call. The same file again changes
// nothing, so a run that broke off is repeated.
func (c *batchSerials) Run(s *session) error {
	in := s.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return absent(err)
		}
		defer f.Close()
		in = f
	}
	next, err := serialRows(in)
	if err != nil {
		return err
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	var bound, changed int64
	for {
		var some []client.SerialBinding
		some, err = next()
		if err != nil {
			return fault("batch_serials.read_after", plain(c.File), counted(int(bound), "serial number"), err)
		}
		if len(some) == 0 {
			break
		}
		done, err := qrjump.Codes.BindSerials(s.ctx, c.ID, some, c.Replace, c.Actor)
		if err != nil {
			return aboutStored(s, qrjump, said("batch_serials.bind_serial_numbers_are_of", bound), c.ID, err)
		}
		bound += done.Codes
		changed += done.Changed
	}
	return c.print(s, map[string]any{"application_id": c.ID, "serials": bound, "changed": changed}, func(w io.Writer) {
		tell(w, "batch_serials.bound_of_of_them_new", counted(int(bound), "serial number"), c.ID, changed)
	})
}

// serialsAtOnce keeps a call below the 1 MiB that a body of the admin API may have.
const serialsAtOnce = 3000

// serialRows reads the header of a CSV, and returns what reads on.
func serialRows(in io.Reader) (next func() ([]client.SerialBinding, error), err error) {
	table := csv.NewReader(in)
	table.ReuseRecord = true
	header, err := table.Read()
	if err != nil {
		return nil, misused("batch_serials.the_file_has_no_first")
	}
	header = slices.Clone(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // as spreadsheets write it
	serial, by := slices.Index(header, "serial"), ""
	for _, name := range []string{"index", "text", "code"} {
		if by == "" && slices.Contains(header, name) {
			by = name
		}
	}
	if serial < 0 || by == "" {
		return nil, misused("batch_serials.the_first_line_names_the", strings.Join(header, ", "))
	}
	at := slices.Index(header, by)
	return func() (some []client.SerialBinding, err error) {
		for len(some) < serialsAtOnce {
			row, err := table.Read()
			if errors.Is(err, io.EOF) {
				return some, nil
			}
			if err != nil {
				return nil, err
			}
			one := client.SerialBinding{Serial: row[serial]}
			switch by {
			case "text":
				one.CodeURL = row[at]
			case "code":
				one.Code = row[at]
			default:
				index, err := strconv.ParseInt(row[at], 10, 64)
				if err != nil || index < 0 {
					line, _ := table.FieldPos(at)
					return nil, fault("batch_serials.line_is_no_index", line, row[at])
				}
				one.Index = &index
			}
			some = append(some, one)
		}
		return some, nil
	}, nil
}
