package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/print/printpackage"
)

type packageCreate struct {
	operator
	passphraseFlags
	ID           int64    `arg:"" name:"id"`
	Range        []string `arg:"" name:"range"`
	For          string   `required:"" placeholder:"PRINTER"`
	Name         string   `placeholder:"NAME"`
	ByPassphrase bool
	Out          string   `placeholder:"FILE" file:"out"`
	Format       []string `enum:"csv,ndjson,lines,text" default:"csv" placeholder:"csv|ndjson|lines|text"`
	With         []string `enum:"sheet,png,svg,pdf,eps,zpl,tspl" placeholder:"sheet|png|svg|pdf|eps|zpl|tspl"`
	kindFlags
	symbolStyleFlags
	pageFlags
	Spare  int64  `placeholder:"N"`
	Proofs int64  `placeholder:"N"`
	Reason string `placeholder:"TEXT"`
	Actor  string `placeholder:"WHO"`
	DryRun bool
}

// Run creates a package and downloads its file.
func (c *packageCreate) Run(s *session, qrjump *client.Client) error {
	r, all, err := parseRange(c.Range)
	if err != nil {
		return err
	}
	keys, name, err := c.printer()
	if err != nil {
		return err
	}
	word := ""
	if c.ByPassphrase {
		if word, err = c.passphrase(s, true); err != nil {
			return err
		}
		if _, err := printpackage.ForPassphrase(word, 0); err != nil {
			return usageError(err.Error())
		}
	}
	if all {
		if r, err = wholeBatch(s, qrjump, c.ID, tr("package.make_a_package_of")); err != nil {
			return err
		}
	}
	wish := client.PackageRequest{From: r.From, To: r.To, Spare: c.Spare, Proofs: c.Proofs, Printer: name, Recipients: keys,
		Formats: append(c.Format, c.With...), Reason: c.Reason, Actor: c.Actor, DryRun: c.DryRun}
	if err := c.check(); err != nil {
		return err
	}
	unsupported := c.unsupported(c.With...)
	if slices.Contains(c.With, "sheet") {
		unsupported = pageFlags{Copies: unsupported.Copies}
	}
	if unsupported != (pageFlags{}) {
		return misused("package.page_flags")
	}
	var usual labelFlags
	if err := kong.ApplyDefaults(&usual); err != nil {
		return err
	}
	if len(c.With) == 0 && (c.kindFlags != usual.kindFlags || !reflect.DeepEqual(c.symbolStyleFlags, usual.symbolStyleFlags)) {
		return misused("package.style_flags")
	}
	if len(c.With) > 0 {
		drawing := client.LabelDrawing(c.printing(c.kindFlags, c.pageFlags))
		wish.Drawing = &drawing
	}
	made, err := qrjump.Packages.Create(s.ctx, c.ID, wish)
	if err != nil {
		return aboutStored(s, qrjump, tr("package.make_a_package_of_2")+rangeText(r)+" of", c.ID, err)
	}
	if made.Plan != nil {
		return c.print(s, made.Plan, nil, func(w io.Writer) {
			printMsg(w, "package.would_contain", countedCodes(r.Len()), c.ID, rangeText(r))
			(&labelPlan{Pages: made.Plan.Pages, Page: made.Plan.PerPage, Width: made.Plan.Width, Height: made.Plan.Height,
				Module: made.Plan.Module}).tellLook(w)
		})
	}
	out := cmp.Or(c.Out, fmt.Sprintf("package-%d.age", made.ID))
	size, err := savePackage(s, qrjump, made.ID, word, out)
	return c.print(s, struct {
		client.Package
		File  string `json:"file"`
		Bytes int64  `json:"bytes"`
	}{made, out, size}, err, func(w io.Writer) {
		printMsg(w, "package.package_of_for_in", made.ID, countedCodes(r.Len()), c.ID, plain(made.Printer), plain(out),
			counted(int(size), "byte"))
		if made.Proofs != 0 {
			printMsg(w, "package.its_proof_codes_are_application", made.Proofs)
		}
		if len(made.OverlappingPackages) > 0 {
			ids := mapped(made.OverlappingPackages, number)
			printMsg(w, "package.a_reprint_codes_of_it", "package"+textIf(len(ids) > 1, "s")+" "+strings.Join(ids, ", "))
		}
	})
}

// printer returns the printer's public keys and name from --for, which is a key, a file of keys or, with a passphrase, only a name.
func (c *packageCreate) printer() (keys []string, name string, err error) {
	if c.ByPassphrase {
		if isPublicKey(c.For) {
			return nil, "", misused("package.for_is_a_key_and", c.For)
		}
		return nil, cmp.Or(c.Name, c.For), nil
	}
	text := c.For
	name = c.Name
	if !isPublicKey(c.For) {
		b, err := readSmall(c.For)
		if err != nil {
			return nil, "", misused("package.for_is_no_public_key", plain(c.For), err)
		}
		text, name = string(b), cmp.Or(name, strings.TrimSuffix(filepath.Base(c.For), filepath.Ext(c.For)))
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			keys = append(keys, line)
		}
	}
	if _, err := printpackage.Recipients(keys); err != nil {
		return nil, "", misused("package.for", err)
	}
	if name == "" {
		parts := strings.Fields(keys[0])
		name = fmt.Sprintf("%.20s", parts[len(parts)-1])
	}
	return keys, name, nil
}

func isPublicKey(text string) bool {
	return strings.HasPrefix(text, "age1") || strings.HasPrefix(text, "ssh-")
}

// readSmall reads a key file of at most 64 KiB.
func readSmall(path string) ([]byte, error) { return readUpTo(path, 1<<16) }

func readUpTo(path string, limit int64) ([]byte, error) {
	b, err := readSome(path, limit+1)
	if err == nil && int64(len(b)) > limit {
		err = fault("package.has_more_than_bytes", path, limit)
	}
	return b, err
}

// savePackage downloads the file of a package.
func savePackage(s *session, qrjump *client.Client, id int64, word, out string) (int64, error) {
	size, err := replaceFile(out, func(w io.Writer) error { return qrjump.Packages.Download(s.ctx, id, word, w) })
	if err != nil {
		return 0, hintError{error: fault("package.download_package", id, err), next: tr("package.it_is_made_all_the", id)}
	}
	return size, nil
}

type packageSend struct {
	operator
	passphraseFlags
	Package      int64 `arg:""`
	ByPassphrase bool
	Out          string `placeholder:"FILE" file:"out"`
}

// Run downloads the encrypted file of an existing package, to be sent to the printer again.
func (c *packageSend) Run(s *session, qrjump *client.Client) error {
	word := ""
	if c.ByPassphrase {
		var err error
		if word, err = c.passphrase(s, true); err != nil {
			return err
		}
	}
	out := cmp.Or(c.Out, fmt.Sprintf("package-%d.age", c.Package))
	size, err := replaceFile(out, func(w io.Writer) error { return qrjump.Packages.Download(s.ctx, c.Package, word, w) })
	return c.outcome(s, map[string]any{"package": c.Package, "file": out, "bytes": size}, aboutPackage("download", c.Package, err),
		"package.wrote_package_to", c.Package, plain(out), counted(int(size), "byte"))
}

func aboutPackage(did string, id int64, err error) error {
	return withListCommand(did, tr("package.numbered", id), "qrjump package list", err)
}

type packageList struct {
	operator
	Account string `placeholder:"APPID"`
	Batch   int64  `placeholder:"ID"`
}

// everyPackage returns all packages that match the query.
func everyPackage(ctx context.Context, qrjump *client.Client, q client.PackageQuery) ([]client.Package, error) {
	q.Limit = 1000
	return everyPage(q.Limit, func(lastPackage client.Package) ([]client.Package, error) {
		q.After = lastPackage.ID
		return qrjump.Packages.List(ctx, q)
	})
}

// Run lists packages.
func (c *packageList) Run(s *session, qrjump *client.Client) error {
	all, err := everyPackage(s.ctx, qrjump, client.PackageQuery{Account: c.Account, ApplicationID: c.Batch})
	return listing[client.Package]{name: "packages", none: tr("package.no_packages_the_first_qrjump"),
		heads: []string{"ID", "APPLICATION", "CODES", "PRINTER", "STATE", "DOWNLOADED", "CREATED", "BY", "REASON"},
		row: func(p client.Package) []string {
			state := tr("package.with_the_printer")
			if p.RecalledAt != nil {
				state = "recalled " + formatTime(*p.RecalledAt)
			} else if p.DownloadCount == 0 {
				state = tr("package.not_sent")
			}
			return []string{number(p.ID), number(p.ApplicationID), rangeText(client.CodeRange{From: p.From, To: p.To}), p.Printer, state,
				number(p.DownloadCount), formatTime(p.CreatedAt), p.CreatedBy, orDash(p.Reason)}
		}}.print(s, c.outputFlags, all, emptyFor(s, qrjump, tr("package.list_packages_of"), c.Account, len(all),
		failed("list", "packages", err)))
}

type packageSigner struct{ operator }

// Run prints the public key with which printers verify packages.
func (c *packageSigner) Run(s *session, qrjump *client.Client) error {
	signer, err := qrjump.Packages.GetSigner(s.ctx)
	return c.outcome(s, signer, failed("ask", tr("package.for_the_signer_of_packages"), err), "plain", plain(signer.AllowedSigners))
}

type packageRecall struct {
	operator
	Package int64 `arg:""`
	confirmFlag
	Note  string `placeholder:"TEXT"`
	Actor string `placeholder:"WHO"`
}

// Run recalls a package.
func (c *packageRecall) Run(s *session, qrjump *client.Client) error {
	if err := c.confirmed(s, tr("package.recall_package_and_freeze_its", c.Package)); err != nil {
		return err
	}
	p, err := qrjump.Packages.Recall(s.ctx, c.Package, c.Note, c.Actor)
	return c.outcome(s, p, aboutPackage("recall", c.Package, err),
		"package.recalled_package_of_are_frozen", p.ID, countedCodes(p.To-p.From+1), p.ApplicationID)
}

type packageSpoil struct {
	operator
	Package int64    `arg:""`
	Ranges  []string `arg:"" name:"range"`
	confirmFlag
	Note  string `placeholder:"TEXT"`
	Actor string `placeholder:"WHO"`
}

// Run records that codes of a package were spoiled and destroyed.
func (c *packageSpoil) Run(s *session, qrjump *client.Client) error {
	ranges, all, err := parseRanges(c.Ranges)
	switch {
	case err != nil:
		return err
	case all:
		return misused("package.recall_hint", c.Package)
	}
	if err := c.confirmed(s, tr("package.void_spoiled_codes_for_ever")); err != nil {
		return err
	}
	p, err := qrjump.Packages.VoidCodes(s.ctx, c.Package, ranges, c.Note, c.Actor)
	return c.print(s, p, aboutPackage(tr("package.spoil_codes_of"), c.Package, err), func(w io.Writer) {
		var n int64
		for _, r := range p.Spoiled {
			n += r.Len()
		}
		printMsg(w, "package.spoiled_in_package_until_now", p.ID, countedCodes(n))
	})
}
