package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/yamltext"
)

type faultList struct{ operator }

// Run lists the faults in force.
func (c *faultList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListFaults(s.ctx)
	return listing[client.FaultInForce]{name: "faults", none: said("fault.nothing_goes_wrong_on_purpose"),
		heads: []string{"ID", "PATH", "ACCOUNT", "WHAT HAPPENS", "HOW OFTEN", "HAPPENED"}, row: func(f client.FaultInForce) []string {
			times := said("fault.without_end")
			if f.Times > 0 {
				times = said("fault.of", f.Fired, f.Times)
			}
			return []string{strconv.Itoa(f.ID), f.Path, orElse(f.AppID, "any"), faultText(f.Fault), times,
				strconv.Itoa(f.Fired)}
		}}.print(s, c.outputFlags, list, emulated(said("fault.list_faults"), err))
}

// faultText says in words what a fault does.
func faultText(f client.Fault) string {
	var parts []string
	if f.Delay != "" {
		parts = append(parts, "after "+f.Delay)
	}
	switch {
	case f.ErrCode != 0 && f.After:
		parts = append(parts, said("fault.it_is_done_and_answers", f.ErrCode))
	case f.ErrCode != 0:
		parts = append(parts, said("fault.it_answers", f.ErrCode))
	case f.Drop:
		parts = append(parts, said("fault.the_connection_closes"))
	case f.DropAfter:
		parts = append(parts, said("fault.it_is_done_and_the"))
	default:
		parts = append(parts, said("fault.it_goes_on"))
	}
	if f.Probability != nil && *f.Probability < 1 {
		parts = append(parts, said("fault.with_a_chance_of", *f.Probability))
	}
	return strings.Join(parts, ", ")
}

type faultAdd struct {
	operator
	Path      string `arg:""`
	ErrCode   int    `name:"errcode" placeholder:"NUMBER"`
	After     bool
	Drop      bool
	DropAfter bool
	Delay     time.Duration `placeholder:"TIME"`
	Times     int           `placeholder:"N"`
	Chance    *float64      `placeholder:"0..1"`
	Account   string        `placeholder:"APPID"`
}

// Run makes calls of an endpoint go wrong.
func (c *faultAdd) Run(s *session) error {
	if c.ErrCode == 0 && !c.Drop && !c.DropAfter && c.Delay == 0 {
		return misused("fault.say_what_shall_happen_to", plain(c.Path))
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	if err := emptyFor(s, qrjump, said("fault.add_fault_for"), c.Account, 0); err != nil {
		return err // it would never happen
	}
	f := client.Fault{Path: c.Path, ErrCode: c.ErrCode, After: c.After, AppID: c.Account, Times: c.Times, Probability: c.Chance,
		Drop: c.Drop, DropAfter: c.DropAfter}
	if c.Delay != 0 {
		f.Delay = c.Delay.String()
	}
	whose, often := said("fault.every_call"), ""
	if c.Account != "" {
		whose += " of " + c.Account
	}
	if c.Times > 0 {
		often = ", " + counted(c.Times, "time")
	}
	return c.outcome(s, f, emulated(said("fault.add_fault_on")+c.Path, qrjump.Emulator.CreateFault(s.ctx, f)),
		"fault.to_from_now_on", plain(whose), plain(c.Path), often, plain(faultText(f)))
}

type faultClear struct {
	operator
	ID int `arg:"" optional:""`
}

// Run ends faults.
func (c *faultClear) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListFaults(s.ctx)
	if err != nil {
		return emulated(said("fault.clear_faults"), err)
	}
	ended := list
	if c.ID != 0 {
		id := strconv.Itoa(c.ID)
		if err := qrjump.Emulator.DeleteFault(s.ctx, c.ID); err != nil {
			return seeList(said("fault.clear_fault"), id, "qrjump fault list", err)
		}
		ended = nil
		for _, f := range list {
			if f.ID == c.ID {
				ended = append(ended, f)
			}
		}
	} else if err := qrjump.Emulator.DeleteFaults(s.ctx); err != nil {
		return emulated(said("fault.clear_faults"), err)
	}
	says := counted(len(ended), "fault") + " ended"
	if len(ended) == 0 {
		says = said("fault.there_was_no_fault")
	}
	return c.outcome(s, map[string]any{"ended": append([]client.FaultInForce{}, ended...)}, nil, "plain", says)
}

type stubListCommand struct{ operator }

// Run lists the stubs in force.
func (c *stubListCommand) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListStubs(s.ctx)
	return listing[client.Stub]{name: "stubs", none: said("fault.no_path_is_answered_by"),
		heads: []string{"METHOD", "PATH", "STATUS", "DELAY", "HOW OFTEN", "ANSWERED"}, row: func(one client.Stub) []string {
			left := said("fault.without_end")
			if one.Times > 0 {
				left = said("fault.of", one.Served, one.Times)
			}
			status := one.Status
			if status == 0 {
				status = 200
			}
			return []string{orElse(one.Method, "any"), one.Path, strconv.Itoa(status), orDash(one.Delay), left,
				strconv.Itoa(one.Served)}
		}}.print(s, c.outputFlags, list, emulated(said("fault.list_stubs"), err))
}

type stubSet struct {
	operator
	File string `arg:"" file:"in"`
}

// fileStub is a stub as a file says it.
type fileStub struct {
	Method string `yaml:"method"`
	Path   string `yaml:"path"`
	Status int    `yaml:"status"`
	Body   any    `yaml:"body"`
	Delay  string `yaml:"delay"`
	Times  int    `yaml:"times"`
	Served int    `yaml:"served"` // of a list; it decides nothing
}

// Run puts the stubs of a file in place of those in force.
func (c *stubSet) Run(s *session) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return misuse(inReader(err).Error())
	}
	var file struct {
		Stubs []fileStub `yaml:"stubs"`
	}
	if err := yamltext.Check(text); err != nil {
		return misused("batch_download.of", c.File, err)
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		return yamlFault(c.File, err)
	}
	if len(file.Stubs) == 0 {
		return misused("fault.has_no_stub_under_the", c.File)
	}
	stubs := []client.Stub{}
	for i, one := range file.Stubs {
		if one.Path == "" {
			return misused("fault.stub_has_no_path", c.File, i+1)
		}
		stubs = append(stubs, client.Stub{Method: one.Method, Path: one.Path, Status: one.Status, Body: one.Body, Delay: one.Delay,
			Times: one.Times})
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	before, err := qrjump.Emulator.ListStubs(s.ctx)
	if err == nil {
		err = qrjump.Emulator.SetStubs(s.ctx, stubs)
	}
	return c.outcome(s, map[string]any{"stubs": stubs}, emulated(said("fault.set_the_stubs_of")+c.File, err),
		"fault.in_force_in_place_of", counted(len(stubs), "stub"), len(before))
}

type stubClear struct{ operator }

// Run ends all stubs.
func (c *stubClear) Run(s *session, qrjump *client.Client) error {
	before, err := qrjump.Emulator.ListStubs(s.ctx)
	if err == nil {
		err = qrjump.Emulator.DeleteStubs(s.ctx)
	}
	says := counted(len(before), "stub") + " ended"
	if len(before) == 0 {
		says = said("fault.there_was_no_stub")
	}
	return c.outcome(s, map[string]any{"ended": append([]client.Stub{}, before...)},
		emulated(said("fault.clear_stubs"), err), "plain", says)
}
