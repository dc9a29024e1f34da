package main

import (
	"fmt"
	"io"
	"time"

	"github.com/qrjump/qrjump/client"
)

type scanKeyList struct{ operator }

// Run lists the keys of apps that scan.
func (c *scanKeyList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanKeys(s.ctx)
	return listing[client.ScanKey]{name: "keys", none: "no app has a key; make one with: qrjump scan-key add NAME",
		heads: []string{"NAME", "NAMESPACE", "MADE"}, row: func(k client.ScanKey) []string {
			return []string{k.Name, k.Namespace, moment(k.CreatedAt)}
		}}.print(s, c.outputFlags, list, failed("list", "scan keys", err))
}

// moment is a time that may not have been.
func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return when(*t)
}

type scanKeyAdd struct {
	operator
	Name      string `arg:""`
	Namespace string `placeholder:"NAME"`
	Replace   bool
}

// Run makes a key. It is shown this once.
func (c *scanKeyAdd) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanKeys(s.ctx)
	if err != nil {
		return failed("add scan key", c.Name, err)
	}
	for _, k := range list {
		if k.Name == c.Name && !c.Replace {
			return coded{advised{error: fmt.Errorf("add scan key %s: there is one of this name, in the namespace %s", c.Name, k.Namespace),
				next: "to end it and make another, say --replace"}, exitRefused}
		}
	}
	key, err := qrjump.AddScanKey(s.ctx, client.ScanKey{Name: c.Name, Namespace: c.Namespace})
	if err != nil {
		return failed("add scan key", c.Name, err)
	}
	return c.print(s, map[string]any{"name": c.Name, "key": key}, func(w io.Writer) {
		fmt.Fprintln(w, key)
		fmt.Fprintf(s.err, "this is the key %s: it is shown this once\n", plain(c.Name))
	})
}

type scanKeyDelete struct {
	operator
	Name string `arg:""`
	Yes  bool
}

// Run ends a key at once.
func (c *scanKeyDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanKeys(s.ctx)
	if err != nil {
		return failed("delete scan key", c.Name, err)
	}
	one, err := named(list, func(k client.ScanKey) string { return k.Name }, "delete", c.Name, "scan key", "qrjump scan-key list")
	if err != nil {
		return err
	}
	if err := confirmed(s, c.Yes, "the app with the key "+one.Name+" cannot scan any more"); err != nil {
		return err
	}
	err = qrjump.DeleteScanKey(s.ctx, c.Name)
	return c.outcome(s, one, failed("delete scan key", c.Name, err),
		"the key %s ended", plain(c.Name))
}
