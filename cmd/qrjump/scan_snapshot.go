package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// fromSnapshot scans links with the rules of a snapshot file, without a server. The file contains rules, accounts and the links between
// accounts. The file contains no codes and no users, so test links, which need a user, open nothing.
func (c *scanCommand) fromSnapshot(s *session) error {
	if c.explains() || c.User != "" || c.At != "" {
		return misused("scan_snapshot.snapshot_knows_rules_and_accounts")
	}
	file, err := index.ReadSnapshot(c.Snapshot)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return misused("scan_snapshot.snapshot_there_is_no_such", c.Snapshot)
	case err != nil:
		return fault("scan_snapshot.scan_a_server_writes_a", err)
	}
	resolver := scan.Resolver{Finder: file.Rules, Accounts: replica.AccountsOf(file.Accounts)}
	if c.Link != "-" {
		d, err := c.resolveFrom(resolver, c.Link)
		if err != nil {
			return err
		}
		return c.show(s, d, func(w io.Writer) {
			printFields(w, [2]string{"note", tr("scan_snapshot.from_a_snapshot_of_change", file.Seq)})
		})
	}
	lines := &lineReader{in: s.in}
	for line := range lines.all() {
		request := c.ofLine(line)
		if request.User != "" {
			return misused("scan_snapshot.snapshot_knows_rules_and_accounts")
		}
		d, err := c.resolveFrom(resolver, request.Text)
		if err != nil {
			return err
		}
		if _, err := s.out.Write(append(d.Raw, '\n')); err != nil {
			return err
		}
	}
	return lines.err
}

// resolveFrom scans a link with the snapshot's rules, and returns the decision in the format of the scan API.
func (c *scanCommand) resolveFrom(r scan.Resolver, link string) (client.Decision, error) {
	d := r.Resolve(scan.Request{Text: link, Source: scan.Source(c.Source), At: time.Now()})
	shown := client.Decision{Action: string(d.Action), AppID: d.AppID, Version: string(d.Version), Path: d.Path, Scene: d.Scene, URL: d.URL,
		Text: d.Text}
	if d.Kind != "" {
		shown.Matched = &client.Matched{Kind: string(d.Kind), Prefix: d.Matched.Prefix}
	}
	var raw bytes.Buffer
	e := json.NewEncoder(&raw)
	e.SetEscapeHTML(false)
	err := e.Encode(shown)
	shown.Raw = bytes.TrimSuffix(raw.Bytes(), []byte("\n"))
	return shown, err
}
