package ruleplan

import (
	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// File is the content of a rules file that Read can parse.
type File struct {
	Rules []Written `yaml:"rules" json:"rules"`
}

// Written is a rule in the format of a rules file. Written contains all fields, so that the plan for an unchanged file has no steps.
type Written struct {
	Prefix      string    `yaml:"prefix" json:"prefix"`
	Path        string    `yaml:"path" json:"path"`
	AppID       string    `yaml:"appid,omitempty" json:"appid,omitempty"`
	Occupy      *bool     `yaml:"occupy,omitempty" json:"occupy,omitempty"`
	OpenVersion *int      `yaml:"open_version,omitempty" json:"open_version,omitempty"`
	TestLinks   *[]string `yaml:"test_links,omitempty" json:"test_links,omitempty"`
	Published   bool      `yaml:"published" json:"published"`
}

// Write converts a rule to the format of a rules file; target is the Mini Program that a rule of a service account opens.
func Write(r client.Rule, target string) Written {
	w := Written{Prefix: r.Prefix, Path: r.Path, Published: r.Published}
	if KindOf(r) == rules.KindService {
		w.AppID = target
		return w
	}
	links := append([]string{}, r.TestLinks...)
	w.Occupy, w.OpenVersion, w.TestLinks = new(r.Occupy), new(int(r.OpenVersion)), &links
	return w
}

// Text returns the rules file as YAML.
func (f File) Text() ([]byte, error) { return yaml.Marshal(f) }

// FromAPI converts a rule of the API to the form that Decide compares.
func FromAPI(r client.StoredRule) (Stored, error) {
	s := Stored{Rule: client.Rule{Prefix: r.Prefix, Path: r.Path, Published: r.Published, Occupy: r.Occupy,
		OpenVersion: client.OpenVersion(r.OpenVersion), TestLinks: r.TestLinks}}
	if KindOf(s.Rule) == rules.KindService {
		s.Target = r.Target
	}
	var err error
	s.Parsed, err = rules.ParsePrefix(r.Prefix, KindOf(s.Rule), true)
	return s, err
}
