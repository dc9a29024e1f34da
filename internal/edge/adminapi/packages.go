package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"filippo.io/age"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/print/printpackage"
)

const ageType = "application/age"

type PackagePath struct {
	ID int64 `path:"package" minimum:"1"`
}

// packageInput is the input of an operation on a package with a JSON body.
type packageInput[T any] struct {
	PackagePath
	Body T
}

// ofPackage returns the account that owns the package named in a request.
func (a codeAPI) ofPackage(ctx context.Context, parameter func(string) string) (string, error) {
	id, err := strconv.ParseInt(parameter("package"), 10, 64)
	if err != nil {
		return "", codes.ErrNoPackage
	}
	p, err := a.Codes.PrintPackage(ctx, id)
	if err != nil {
		return "", err
	}
	b, err := a.Codes.Memory.BatchOrLoad(ctx, p.Batch)
	return b.Account, err
}

func showPackage(p codes.PrintPackage) client.Package {
	var drawing *client.LabelDrawing
	if p.Drawing != "" {
		drawing = new(client.LabelDrawing)
		_ = json.Unmarshal([]byte(p.Drawing), drawing) // drawingOf wrote it
	}
	return client.Package{Drawing: drawing, ID: p.ID,
		ApplicationID: p.Batch, From: p.Codes.From, To: p.Codes.To, Spare: p.Spare, Proofs: p.Proofs, Printer: p.Printer,
		Recipients: words[string](p.Recipients), Formats: words[string](p.Formats), Reason: p.Reason, CreatedBy: p.MadeBy,
		OverlappingPackages: append([]int64{}, p.ReprintOf...), CreatedAt: p.MadeAt, DownloadCount: p.Sent,
		Spoiled:    mapped(p.Spoiled, func(r codes.Range) client.CodeRange { return client.CodeRange(r) }),
		RecalledAt: optional(p.RecalledAt), RecalledBy: p.RecalledBy}
}

func (a codeAPI) createPackage(ctx context.Context, in *batchInput[client.PackageRequest]) (client.Package, error) {
	w := in.Body
	if len(w.Formats) == 0 {
		w.Formats = []string{"csv"}
	}
	drawing, err := a.drawingOf(ctx, in.ID, w)
	if err != nil {
		return client.Package{}, err
	}
	if w.DryRun {
		plan, err := a.planOf(ctx, in.ID, w, drawing)
		return client.Package{ApplicationID: in.ID, From: w.From, To: w.To, Formats: w.Formats, Plan: plan}, err
	}
	if len(w.Recipients) > 0 {
		if _, err := printpackage.Recipients(w.Recipients); err != nil {
			return client.Package{}, refused("%v", err)
		}
	}
	made, err := a.Codes.MakePackage(acting(ctx, w.Actor), codes.PackageRequest{Batch: in.ID, Codes: codes.Range{From: w.From, To: w.To},
		Spare: w.Spare, Proofs: w.Proofs, Printer: w.Printer, Recipients: w.Recipients, Formats: w.Formats, Drawing: drawing,
		Reason: w.Reason})
	return showPackage(made), err
}

func (a codeAPI) listPackages(ctx context.Context, in *client.PackageQuery) (client.PackageList, error) {
	list, err := a.Codes.PrintPackages(ctx, codes.PackageQuery{Account: in.Account, Batch: in.ApplicationID, After: in.After,
		Pending: in.Pending, Limit: in.Limit})
	return client.PackageList{Packages: mapped(list, showPackage)}, err
}

func (a codeAPI) getPackage(ctx context.Context, in *PackagePath) (client.Package, error) {
	p, err := a.Codes.PrintPackage(ctx, in.ID)
	return showPackage(p), err
}

func (a codeAPI) downloadPackage(ctx context.Context, in *packageInput[client.PackagePassphrase]) (adminroute.File, error) {
	p, err := a.Codes.PrintPackage(ctx, in.ID)
	if err != nil {
		return adminroute.File{}, err
	}
	to, err := a.readersOf(p, in.Body.Passphrase)
	if err != nil {
		return adminroute.File{}, err
	}
	return adminroute.File{Name: fmt.Sprintf("package-%d.age", p.ID), Type: ageType, Write: func(ctx context.Context, w io.Writer) error {
		p, err := a.Codes.SendPackage(ctx, p.ID)
		if err != nil {
			return err
		}
		return a.writePackage(ctx, w, p, to)
	}}, nil
}

// readersOf returns the recipients that can decrypt a package.
func (a codeAPI) readersOf(p codes.PrintPackage, passphrase string) (to []age.Recipient, err error) {
	switch {
	case len(p.Recipients) > 0 && passphrase != "":
		return nil, refused("package %d is encrypted for the key of %s: leave the passphrase out", p.ID, p.Printer)
	case len(p.Recipients) > 0:
		to, err = printpackage.Recipients(p.Recipients)
	case passphrase == "":
		return nil, refused("package %d has no recipient: give the passphrase for its encryption", p.ID)
	default:
		to, err = printpackage.ForPassphrase(passphrase, a.PassphraseWork)
	}
	if err != nil {
		return nil, refused("%v", err)
	}
	return to, nil
}

func (a codeAPI) writePackage(ctx context.Context, w io.Writer, p codes.PrintPackage, to []age.Recipient) error {
	b, err := a.Codes.Memory.BatchOrLoad(ctx, p.Batch)
	if err != nil {
		return err
	}
	lists := []codes.CodeSource{a.Codes.Source(b, p.Codes)}
	m := printpackage.Manifest{Package: p.ID, ApplicationID: p.Batch, Account: b.Account, From: p.Codes.From, To: p.Codes.To,
		Codes: p.Codes.To - p.Codes.From + 1, Spare: p.Spare, OverlappingPackages: p.ReprintOf, Prefix: b.Prefix, Printer: p.Printer,
		CreatedBy: p.MadeBy, CreatedAt: p.MadeAt.UTC()}
	if p.Proofs != 0 {
		proofs, err := a.Codes.Memory.BatchOrLoad(ctx, p.Proofs)
		if err != nil {
			return err
		}
		m.Proofs = proofs.Count
		lists = append(lists, a.Codes.Source(proofs, codes.Range{From: 0, To: proofs.Count - 1}))
	}
	if p.Drawing != "" {
		m.Drawing = json.RawMessage(p.Drawing)
		// Only one package is drawn at a time, because drawing takes half of the processors for about a minute.
		done, err := a.drawing.Acquire(ctx, 1, 0)
		if err != nil {
			return err
		}
		defer done()
	}
	var parts []printpackage.Content
	for i, list := range lists {
		holds, batch := []string{"codes", "proofs"}[i], []int64{p.Batch, p.Proofs}[i]
		for _, format := range p.Formats {
			write, err := partOf(p, batch, format, list)
			if err != nil {
				return err
			}
			parts = append(parts, printpackage.Content{Write: write,
				Part: printpackage.Part{Name: holds + partEndings[format], Holds: holds, Format: format, Rows: list.Rows()}})
		}
	}
	head := printpackage.LineHead{Package: p.ID, ApplicationID: p.Batch, From: p.Codes.From, To: p.Codes.To, Spare: p.Spare,
		Proofs: m.Proofs, Prefix: b.Prefix, Text: b.Template, Salt: a.Codes.PackageSalt(p.ID)}
	parts = append(parts, printpackage.Content{Part: printpackage.Part{Name: printpackage.LineName, Holds: "hashes",
		Format: head.FormatFor(), Rows: m.Codes + m.Proofs},
		Write: func(ctx context.Context, w io.Writer) error { return printpackage.WriteLine(ctx, w, head, lists...) }})
	for i := range parts {
		write := parts[i].Write
		parts[i].Write = func(ctx context.Context, w io.Writer) error {
			return write(ctx, &untilRecalled{ctx, w, a.Admin, p.ID, 0})
		}
	}
	return printpackage.Pack(ctx, w, m, parts, a.PackageSigner, to)
}

// untilRecalled is a writer that fails once the package that is being written is recalled. Write checks for a recall after every
// recallEvery bytes.
type untilRecalled struct {
	ctx context.Context
	io.Writer
	admin *Admin
	id    int64
	since int
}

const recallEvery = 1 << 20

func (u *untilRecalled) Write(b []byte) (int, error) {
	if u.since += len(b); u.since >= recallEvery {
		u.since = 0
		p, err := u.admin.Codes.PrintPackage(u.ctx, u.id)
		if err == nil && !p.RecalledAt.IsZero() {
			err = codes.Conflict(fmt.Sprintf("package %d was recalled by %s while it was written", p.ID, p.RecalledBy))
		}
		if err != nil {
			return 0, err
		}
	}
	return u.Writer.Write(b)
}

func (a codeAPI) recallPackage(ctx context.Context, in *packageInput[client.PackageNote]) (client.Package, error) {
	p, err := a.Codes.RecallPackage(acting(ctx, in.Body.Actor), in.ID, in.Body.Note)
	return showPackage(p), err
}

func (a codeAPI) markCodesSpoiled(ctx context.Context, in *packageInput[client.SpoiledCodes]) (client.Package, error) {
	ranges := mapped(in.Body.Ranges, func(r client.CodeRange) codes.Range { return codes.Range(r) })
	for i, r := range ranges {
		if r.From < 0 || r.From > r.To {
			return client.Package{}, refused("ranges[%d]: %d to %d is no range", i, r.From, r.To)
		}
	}
	p, err := a.Codes.SpoilCodes(acting(ctx, in.Body.Actor), in.ID, codes.NewSet(ranges...), in.Body.Note)
	return showPackage(p), err
}

func (a codeAPI) getPackageSigner(context.Context, *client.Empty) (client.PackageSigner, error) {
	s := a.PackageSigner
	return client.PackageSigner{PublicKey: s.PublicKey(), AllowedSigners: s.AllowedSigners(), Fingerprint: s.Fingerprint()}, nil
}
