package main

import (
	"cmp"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

type faultList struct{ operator }

// Run lists the active faults.
func (c *faultList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListFaults(s.ctx)
	return listing[client.ActiveFault]{name: "faults", none: tr("fault.none"),
		heads: []string{"ID", "PATH", "ACCOUNT", "EFFECT", "REMAINING", "TRIGGERED"}, row: func(f client.ActiveFault) []string {
			remaining := tr("fault.without_end")
			if f.Remaining != nil {
				remaining = strconv.Itoa(*f.Remaining)
			}
			path := strings.TrimSpace(f.Method + " " + f.Path)
			return []string{strconv.Itoa(f.ID), path, cmp.Or(f.AppID, "any"), faultText(f.Fault), remaining, strconv.Itoa(f.TriggerCount)}
		}}.print(s, c.outputFlags, list, emulated(tr("fault.list_faults"), err))
}

// faultText describes the effect of a fault in words.
func faultText(f client.Fault) string {
	var parts []string
	if f.Delay != "" {
		parts = append(parts, "after "+f.Delay)
	}
	switch {
	case f.ErrCode != 0 && f.After:
		parts = append(parts, tr("fault.it_is_done_and_answers", f.ErrCode))
	case f.ErrCode != 0:
		parts = append(parts, tr("fault.it_answers", f.ErrCode))
	case f.Drop:
		parts = append(parts, tr("fault.the_connection_closes"))
	case f.DropAfter:
		parts = append(parts, tr("fault.it_is_done_and_the"))
	case f.Response != nil:
		body, text := string(f.Response.Body), ""
		if json.Unmarshal(f.Response.Body, &text) == nil {
			body = strconv.Quote(text)
		}
		parts = append(parts, strings.TrimSpace(tr("fault.it_responds", cmp.Or(f.Response.Status, 200), body)))
	default:
		parts = append(parts, tr("fault.it_goes_on"))
	}
	if f.Probability != nil && *f.Probability < 1 {
		parts = append(parts, tr("fault.with_a_chance_of", *f.Probability))
	}
	return strings.Join(parts, ", ")
}

type faultAdd struct {
	operator
	Path     string `arg:"" optional:""`
	FromFile string `placeholder:"FILE" file:"in"`
	faultFlags
}

type faultFlags struct {
	ErrCode     int `name:"errcode" placeholder:"NUMBER"`
	After       bool
	Drop        bool
	DropAfter   bool
	Delay       time.Duration `placeholder:"TIME"`
	Times       *int          `placeholder:"N"`
	Probability *float64      `placeholder:"0..1"`
	Account     string        `placeholder:"APPID"`
	Method      string        `placeholder:"METHOD"`
	Status      int           `placeholder:"NUMBER"`
	Body        string        `placeholder:"TEXT"`
}

// Run adds a fault that makes calls of an endpoint fail, or that sends a fixed response to calls of a path.
func (c *faultAdd) Run(s *session, qrjump *client.Client) error {
	if (c.Path == "") == (c.FromFile == "") || c.FromFile != "" && c.faultFlags != (faultFlags{}) {
		return misused("fault.path_or_file")
	}
	if c.Times != nil && *c.Times < 1 {
		return misused("print_flags.want_1_or_more", "--times", *c.Times)
	}
	if c.FromFile != "" {
		return c.addFile(s, qrjump)
	}
	responds := c.Status != 0 || c.Body != ""
	if c.ErrCode == 0 && !c.Drop && !c.DropAfter && c.Delay == 0 && !responds {
		return misused("fault.missing_effect", plain(c.Path))
	}
	if err := emptyFor(s, qrjump, tr("fault.add_fault_for"), c.Account, 0, nil); err != nil {
		return err // The AppID belongs to no account and no platform, so a fault for its calls would never occur.
	}
	f := client.Fault{Method: c.Method, Path: c.Path, ErrCode: c.ErrCode, After: c.After, AppID: c.Account, Probability: c.Probability,
		Drop: c.Drop, DropAfter: c.DropAfter, Remaining: c.Times}
	if c.Delay != 0 {
		f.Delay = c.Delay.String()
	}
	if responds {
		body := []byte(c.Body)
		if len(body) > 0 && !json.Valid(body) { // a text
			body, _ = json.Marshal(c.Body)
		}
		f.Response = &client.FaultResponse{Status: c.Status, Body: body}
	}
	owner, text := tr("fault.every_call"), ""
	if c.Account != "" {
		owner += " of " + c.Account
	}
	if c.Times != nil {
		text = ", " + counted(*c.Times, "time")
	}
	return c.outcome(s, f, emulated(tr("fault.add_fault_on")+c.Path, qrjump.Emulator.CreateFault(s.ctx, f)),
		"fault.to_from_now_on", plain(owner), plain(c.Path), text, plain(faultText(f)))
}

// addFile adds the faults of a file in file order.
func (c *faultAdd) addFile(s *session, qrjump *client.Client) error {
	text, err := os.ReadFile(c.FromFile)
	if err != nil {
		return usageError(inReader(err).Error())
	}
	var file struct {
		Faults []struct {
			client.Fault `yaml:",inline"`
			ID           int `yaml:"id"`            // The ID comes from an exported list and has no effect.
			TriggerCount int `yaml:"trigger_count"` // The count comes from an exported list and has no effect.
		} `yaml:"faults"`
	}
	if err := safeyaml.Check(text); err != nil {
		return misused("batch_download.of", c.FromFile, err)
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict(), yaml.UseJSONUnmarshaler()); err != nil {
		return yamlFault(c.FromFile, err)
	}
	if len(file.Faults) == 0 {
		return misused("fault.none_in_file", c.FromFile)
	}
	added := []client.Fault{}
	for i, f := range file.Faults {
		if f.Remaining != nil && *f.Remaining == 0 {
			continue // a fault of an exported list that no further call triggers
		}
		if err := qrjump.Emulator.CreateFault(s.ctx, f.Fault); err != nil {
			return emulated(tr("fault.add_of_file", i+1, c.FromFile), err)
		}
		added = append(added, f.Fault)
	}
	return c.outcome(s, map[string]any{"faults": added}, nil, "fault.added_of_file", counted(len(added), "fault"))
}

type faultClear struct {
	operator
	ID *int `arg:"" optional:""`
}

// Run ends faults.
func (c *faultClear) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListFaults(s.ctx)
	if err != nil {
		return emulated(tr("fault.clear_faults"), err)
	}
	ended := list
	if c.ID != nil {
		id := strconv.Itoa(*c.ID)
		if err := qrjump.Emulator.DeleteFault(s.ctx, *c.ID); err != nil {
			return withListCommand(tr("fault.clear_fault"), id, "qrjump fault list", err)
		}
		ended = slices.DeleteFunc(list, func(f client.ActiveFault) bool { return f.ID != *c.ID })
	} else if err := qrjump.Emulator.DeleteFaults(s.ctx); err != nil {
		return emulated(tr("fault.clear_faults"), err)
	}
	says := textOr(len(ended) == 0, tr("fault.there_was_no_fault"), counted(len(ended), "fault")+" ended")
	return c.outcome(s, map[string]any{"ended": append([]client.ActiveFault{}, ended...)}, nil, "plain", says)
}
