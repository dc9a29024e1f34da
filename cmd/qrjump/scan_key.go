package main

import (
	"fmt"
	"io"
	"time"

	"github.com/qrjump/qrjump/client"
)

type scanKeyList struct{ operator }

// Run lists the scan keys of apps.
func (c *scanKeyList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanKeys.List(s.ctx)
	return listing[client.ScanKey]{name: "keys", none: tr("scan_key.no_app_has_a_key"),
		heads: []string{"NAME", "NAMESPACE", "CREATED"}, row: func(k client.ScanKey) []string {
			return []string{k.Name, k.Namespace, moment(k.CreatedAt)}
		}}.print(s, c.outputFlags, list, failed("list", tr("scan_key.scan_keys"), err))
}

// moment formats an optional time; "-" for none.
func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return formatTime(*t)
}

type scanKeyAdd struct {
	operator
	Name      string `arg:""`
	Namespace string `placeholder:"NAME"`
	Replace   bool
}

// Run creates a scan key. The key is shown only once.
func (c *scanKeyAdd) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanKeys.List(s.ctx)
	if err != nil {
		return failed(tr("scan_key.add_scan_key"), c.Name, err)
	}
	for _, k := range list {
		if k.Name == c.Name && !c.Replace {
			return exitError{hintError{error: fault("scan_key.add_scan_key_there_is", c.Name, k.Namespace),
				next: tr("scan_key.to_end_it_and_make")}, exitRefused}
		}
	}
	key, err := qrjump.ScanKeys.Create(s.ctx, client.ScanKey{Name: c.Name, Namespace: c.Namespace})
	return c.print(s, map[string]any{"name": c.Name, "key": key}, failed(tr("scan_key.add_scan_key"), c.Name, err), func(w io.Writer) {
		fmt.Fprintln(w, key)
		printMsg(s.err, "scan_key.this_is_the_key_it", plain(c.Name))
	})
}

type scanKeyDelete struct {
	operator
	Name string `arg:""`
	confirmFlag
}

// Run revokes a scan key immediately.
func (c *scanKeyDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanKeys.List(s.ctx)
	key, err := named(list, failed(tr("scan_key.delete_scan_key"), c.Name, err), func(k client.ScanKey) string { return k.Name },
		"delete", c.Name, tr("scan_key.scan_key"), "qrjump scan-key list")
	if err != nil {
		return err
	}
	if err := c.confirmed(s, tr("scan_key.the_app_with_the_key", key.Name)); err != nil {
		return err
	}
	err = qrjump.ScanKeys.Delete(s.ctx, c.Name)
	return c.outcome(s, key, failed(tr("scan_key.delete_scan_key"), c.Name, err), "scan_key.the_key_ended", plain(c.Name))
}
