package main

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

type settingList struct {
	operator
	Name    string `arg:"" optional:""`
	Changed bool
}

// inWords is a setting with what a server says of it in the language of its reader, where this program knows the setting.
func inWords(one client.Setting) client.Setting {
	if i := slices.IndexFunc(settings.Table, func(f settings.Field) bool { return f.Name == one.Name }); i >= 0 &&
		speaks.language() != i18n.English {
		f := settings.Table[i]
		one.Meaning, one.Allowed, one.Effect = speaks.say(f.Meaning()), speaks.say(f.Allowed()), speaks.say(f.Counts())
	}
	return one
}

// Run lists the settings, or shows one.
func (c *settingList) Run(s *session, qrjump *client.Client) error {
	if c.Name != "" {
		one, err := setting(s, qrjump, "get", c.Name)
		if err != nil {
			return err
		}
		return c.show(s, one)
	}
	list, err := qrjump.Settings.List(s.ctx)
	if c.Changed {
		list = slices.DeleteFunc(list, func(one client.Setting) bool { return !one.Changed() })
	}
	return listing[client.Setting]{name: "settings", none: said("setting.every_setting_has_its_default"),
		heads: []string{"SETTING", "VALUE", "DEFAULT", "MEANING"},
		row: func(one client.Setting) []string {
			return []string{one.Name, string(one.Value), string(one.Default), unmarked(inWords(one).Meaning)}
		}}.print(s, c.outputFlags, list, failed("list", "settings", err))
}

// unmarked is a text of the reference without what only a page shows.
func unmarked(text string) string { return strings.ReplaceAll(text, "`", "") }

// setting finds one by its name.
func setting(s *session, qrjump *client.Client, did, name string) (client.Setting, error) {
	list, err := qrjump.Settings.List(s.ctx)
	if err != nil {
		return client.Setting{}, failed(did, name, err)
	}
	return named(list, func(one client.Setting) string { return one.Name }, did, name, "setting", "qrjump setting list")
}

// show shows a setting with all that is known of it.
func (c *settingList) show(s *session, one client.Setting) error {
	return c.print(s, one, func(w io.Writer) {
		one := inWords(one)
		printFields(w, [2]string{"setting", one.Name}, [2]string{"value", string(one.Value)}, [2]string{"default", string(one.Default)},
			[2]string{"meaning", unmarked(one.Meaning)}, [2]string{"allowed", orElse(one.Allowed, said("setting.true_or_false"))},
			[2]string{"a change", said("setting.counts", one.Effect)})
	})
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

type settingSet struct {
	operator
	Name    string  `arg:""`
	Value   *string `arg:"" optional:""`
	Default bool
}

// Run changes one setting, or gives it its default.
func (c *settingSet) Run(s *session) error {
	if name, value, both := strings.Cut(c.Name, "="); c.Value == nil && both {
		c.Name, c.Value = name, &value
	}
	if c.Value == nil != c.Default {
		return misused("setting.say_the_value_as_well",
			plain(c.Name), plain(c.Name))
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	before, err := setting(s, qrjump, "set", c.Name)
	if err != nil {
		return err
	}
	if c.Default {
		if err := qrjump.Settings.Reset(client.IfMatch(s.ctx, before.Revision), c.Name); err != nil {
			return failed("reset", c.Name, unlessOvertaken("qrjump setting list "+c.Name, err))
		}
		return c.changed(s, qrjump, before, said("setting.its_default"))
	}
	value := settings.Typed(*c.Value, before.Value)
	if err := qrjump.Settings.Update(client.IfMatch(s.ctx, before.Revision), map[string]any{c.Name: value}); err != nil {
		return failed("set", c.Name, unlessOvertaken("qrjump setting list "+c.Name, err))
	}
	return c.changed(s, qrjump, before, "")
}

// changed says what became of a setting.
func (o operator) changed(s *session, qrjump *client.Client, before client.Setting, why string) error {
	after, err := setting(s, qrjump, said("setting.it_was_changed_but_get"), before.Name)
	if err != nil {
		return err
	}
	return o.print(s, after, func(w io.Writer) {
		if bytes.Equal(before.Value, after.Value) {
			tell(w, "setting.is_as_before", after.Name, plain(string(after.Value)), why)
			return
		}
		tell(w, "setting.is_now_it_was_it", after.Name, plain(string(after.Value)), why,
			plain(string(before.Value)), inWords(after).Effect)
	})
}
