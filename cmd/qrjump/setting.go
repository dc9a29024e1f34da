package main

import (
	"bytes"
	"cmp"
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

// inWords returns a setting with its texts in the reader's language; a setting that this program does not know stays unchanged.
func inWords(item client.Setting) client.Setting {
	if i := slices.IndexFunc(settings.Table, func(f settings.Field) bool { return f.Name == item.Name }); i >= 0 &&
		outputLanguage.language() != i18n.English {
		f, l := settings.Table[i], outputLanguage
		item.Meaning, item.Allowed, item.Effect = l.msg(f.Meaning()), l.msg(f.Allowed()), l.msg(f.Counts())
	}
	return item
}

// Run lists the settings, or shows one setting.
func (c *settingList) Run(s *session, qrjump *client.Client) error {
	if c.Name != "" {
		item, err := setting(s, qrjump, "get", c.Name)
		return c.show(s, item, err)
	}
	list, err := qrjump.Settings.List(s.ctx)
	if c.Changed {
		list = slices.DeleteFunc(list, func(item client.Setting) bool { return !item.Changed() })
	}
	return listing[client.Setting]{name: "settings", none: tr("setting.every_setting_has_its_default"),
		heads: []string{"SETTING", "VALUE", "DEFAULT", "MEANING"},
		row: func(item client.Setting) []string {
			return []string{item.Name, settings.Shown(item.Value), settings.Shown(item.Default), stripMarkdown(inWords(item).Meaning)}
		}}.print(s, c.outputFlags, list, failed("list", "settings", err))
}

// stripMarkdown removes the Markdown quotes (backticks) from a description.
func stripMarkdown(text string) string { return strings.ReplaceAll(text, "`", "") }

// setting finds a setting by its name.
func setting(s *session, qrjump *client.Client, did, name string) (client.Setting, error) {
	list, err := qrjump.Settings.List(s.ctx)
	return named(list, failed(did, name, err), func(item client.Setting) string { return item.Name }, did, name, "setting",
		"qrjump setting list")
}

// show prints a setting with all its details, or returns err, the error of the read of the setting.
func (c *settingList) show(s *session, item client.Setting, err error) error {
	return c.print(s, item, err, func(w io.Writer) {
		item := inWords(item)
		printFields(w, [2]string{"setting", item.Name}, [2]string{"value", settings.Shown(item.Value)},
			[2]string{"default", settings.Shown(item.Default)}, [2]string{"meaning", stripMarkdown(item.Meaning)},
			[2]string{"allowed", cmp.Or(item.Allowed, tr("setting.true_or_false"))},
			[2]string{"takes effect", tr("setting.counts", item.Effect)})
	})
}

type settingSet struct {
	operator
	Name    string  `arg:""`
	Value   *string `arg:"" optional:""`
	Default bool
}

// Run changes a setting, or resets a setting to its default.
func (c *settingSet) Run(s *session, qrjump *client.Client) error {
	if name, value, hasBoth := strings.Cut(c.Name, "="); c.Value == nil && hasBoth {
		c.Name, c.Value = name, &value
	}
	if c.Value == nil != c.Default {
		return misused("setting.missing_value", plain(c.Name), plain(c.Name))
	}
	oldSetting, err := setting(s, qrjump, "set", c.Name)
	if err != nil {
		return err
	}
	if c.Default {
		if err := qrjump.Settings.Reset(client.IfMatch(s.ctx, oldSetting.Revision), c.Name); err != nil {
			return failed("reset", c.Name, describeConflict("qrjump setting list "+c.Name, err))
		}
		return c.changed(s, qrjump, oldSetting, tr("setting.its_default"))
	}
	value := settings.Typed(*c.Value, oldSetting.Value)
	if err := qrjump.Settings.Update(client.IfMatch(s.ctx, oldSetting.Revision), map[string]any{c.Name: value}); err != nil {
		return failed("set", c.Name, describeConflict("qrjump setting list "+c.Name, err))
	}
	return c.changed(s, qrjump, oldSetting, "")
}

// changed prints the new value and the old value of a setting that was changed.
func (o operator) changed(s *session, qrjump *client.Client, oldSetting client.Setting, text string) error {
	newSetting, err := setting(s, qrjump, tr("setting.it_was_changed_but_get"), oldSetting.Name)
	return o.print(s, newSetting, err, func(w io.Writer) {
		if bytes.Equal(oldSetting.Value, newSetting.Value) {
			printMsg(w, "setting.is_as_before", newSetting.Name, plain(settings.Shown(newSetting.Value)), text)
			return
		}
		printMsg(w, "setting.is_now_it_was_it", newSetting.Name, plain(settings.Shown(newSetting.Value)), text,
			plain(settings.Shown(oldSetting.Value)), inWords(newSetting).Effect)
	})
}
