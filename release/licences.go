package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// licence is what a part of a program says about its use.
type licence struct {
	module, version, sum string
	id                   string // of SPDX; "" = not known
	text                 string
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-.].*)?$`)

// licencesOf reads the licences of everything in a program. A part without one is
// an error: it must not be given away.
func licencesOf(root string, info *debug.BuildInfo) (list []licence, err error) {
	goroot, err := output(root, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{"std": goroot}
	args := []string{"mod", "download", "-json"}
	for _, m := range info.Deps {
		if m.Path == "github.com/qrjump/qrjump/client" { // of this project
			continue
		}
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced: a release has none of that", m.Path)
		}
		args = append(args, m.Path+"@"+m.Version)
		list = append(list, licence{module: m.Path, version: m.Version, sum: m.Sum})
	}
	c := exec.Command("go", args...)
	c.Dir = root
	answer, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(answer)); d.More(); {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); err != nil {
			return nil, err
		}
		dirs[m.Path] = m.Dir
	}
	list = append([]licence{{module: "std", version: strings.TrimPrefix(info.GoVersion, "go")}}, list...)
	for i := range list {
		if err := list[i].read(dirs[list[i].module]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// read takes the texts of a module's folder.
func (l *licence) read(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		l.text += "--- " + e.Name() + "\n\n" + strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")) + "\n\n"
		if l.id == "" {
			l.id = spdx(string(text))
		}
	}
	if l.text == "" {
		return fmt.Errorf("%s %s has no file with a licence: it cannot be given away", l.module, l.version)
	}
	return nil
}

// spdx names a licence by what only it says; "" where it is none of these.
func spdx(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, one := range []struct{ id, says string }{
		{"Apache-2.0", "Apache License Version 2.0"},
		{"MPL-2.0", "Mozilla Public License Version 2.0"},
		{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated"},
		{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"},
		{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"},
		{"ISC", "Permission to use, copy, modify, and distribute this software for any purpose with or without fee"},
		{"BSD-3-Clause", "may be used to endorse or promote products derived from"},
		{"BSD-2-Clause", "Redistributions in binary form must reproduce the above copyright notice"},
		{"Unlicense", "This is free and unencumbered software released into the public domain"},
	} {
		if strings.Contains(text, one.says) {
			return one.id
		}
	}
	return ""
}

// licencesText is LICENCES.txt: each text once, under the names of all that have it.
func licencesText(list []licence) []byte {
	var order []string
	of := map[string][]string{}
	for _, l := range list {
		if of[l.text] == nil {
			order = append(order, l.text)
		}
		of[l.text] = append(of[l.text], l.module+" "+l.version)
	}
	line := strings.Repeat("=", 80)
	b := bytes.NewBufferString(
		"qrjump itself is under the Apache License 2.0 (LICENSE). In the program is code of others, under the licences that follow.\n")
	for _, text := range order {
		fmt.Fprintf(b, "\n%s\n%s\n%s\n\n%s", line, strings.Join(of[text], "\n"), line, text)
	}
	return b.Bytes()
}

// inOrder sorts by name.
func inOrder(files []file) []file {
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	return files
}
