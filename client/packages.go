package client

import (
	"bytes"
	"context"
	"io"
	"time"
)

// PackageRequest is a request for a package: the codes for a printer, and their format.
type PackageRequest struct {
	From    int64  `json:"code_start" minimum:"0"`
	To      int64  `json:"code_end" minimum:"0"`
	Spare   int64  `json:"spare,omitempty" minimum:"0" doc:"number of these codes, at the end of the range, that are spares"`
	Proofs  int64  `json:"proofs,omitempty" minimum:"0" maximum:"10000" doc:"number of proof codes, which never activate"`
	Printer string `json:"printer" doc:"name of the printer; overlapping ranges may go to one printer only"`
	// Recipients lists the printer's public keys. If the list is empty, a passphrase protects the package; the caller sends the
	// passphrase with each download.
	Recipients []string `json:"recipients,omitempty" maxItems:"20" doc:"public keys: age1…, ssh-ed25519 … or ssh-rsa …; empty = encrypt with a passphrase"`
	// Formats lists the formats of the package's files: lists, or drawn labels.
	Formats []string      `json:"formats,omitempty" maxItems:"10" doc:"lists: csv, ndjson, lines, text; labels: sheet (PDF pages), png, svg, pdf, eps (a ZIP each), zpl, tspl; default: csv"`
	Drawing *LabelDrawing `json:"drawing,omitempty" doc:"layout of labels; default: default values of all fields"`
	Reason  string        `json:"reason,omitempty" doc:"reason for more packages of these codes than max_packages_per_code allows"`
	Actor   string        `json:"actor,omitempty" doc:"actor recorded in the history; default: admin"`
	// DryRun creates nothing; Plan in the response describes the labels that would be drawn.
	DryRun bool `json:"dry_run,omitempty" doc:"if true, creates no package and only plans the labels; ignores printer and recipients"`
}

// LabelPlan describes the labels of a package. For the plan, the server draws the first and the last label and reads their codes.
type LabelPlan struct {
	Codes   int64   `json:"codes"`
	Pages   int64   `json:"pages,omitempty" doc:"number of pages of the format sheet"`
	PerPage int     `json:"labels_per_page,omitempty"`
	Width   float64 `json:"width_mm,omitempty" doc:"width of a label's symbol with its text lines"`
	Height  float64 `json:"height_mm,omitempty"`
	Module  float64 `json:"module_mm,omitempty" doc:"side of a module in whole printer dots"`
}

// LabelDrawing holds the settings for drawing labels. An omitted field has its default value.
type LabelDrawing struct {
	Kind         string   `json:"kind,omitempty" doc:"qr, datamatrix, matrix, both, gs1-qr, gs1-datamatrix or gs1-digital-link; default: qr"`
	Rectangular  bool     `json:"rectangular,omitempty" doc:"if true, a Data Matrix (datamatrix, gs1-datamatrix) is a rectangle, not a square"`
	Module       string   `json:"module,omitempty" doc:"side of a module, rounded to whole printer dots; default: 0.4mm"`
	DPI          int      `json:"dpi,omitempty" doc:"resolution of the printer in dots per inch; default: 300"`
	Level        string   `json:"level,omitempty" doc:"error correction level of a QR code: L, M, Q or H; default: Q"`
	Quiet        *int     `json:"quiet,omitempty" doc:"quiet zone in modules; default: the minimum of the symbol's standard"`
	Lines        []string `json:"lines,omitempty" maxItems:"10" doc:"text lines; {serial}, {text}, {index}, {batch} and {pin} are replaced"`
	LineHeight   string   `json:"line_height,omitempty" doc:"height of a text line; default: 2mm"`
	TextPosition string   `json:"text_position,omitempty" enum:"below,right" doc:"position of the text lines, below the symbol or right of it; default: below"`
	Colour       string   `json:"colour,omitempty" doc:"ink colour, #RRGGBB; k or spot:NAME for a press, with sheet, pdf and eps; default: black"`
	Background   string   `json:"background,omitempty" doc:"background colour, #RRGGBB; default: white"`
	Sheet        string   `json:"sheet,omitempty" doc:"commercial sheet of labels, l7160 or a4-24; other fields override its sizes"`
	Page         string   `json:"page,omitempty" doc:"paper of sheets: a4, or a size such as 100x150mm; default: a4"`
	Columns      int      `json:"columns,omitempty" doc:"columns of a sheet; default: 4, or as many as fit if label or pitch is given"`
	Rows         int      `json:"rows,omitempty" doc:"rows of a sheet; default: 10, or as many as fit if label or pitch is given"`
	Label        string   `json:"label,omitempty" doc:"size of a label such as 63.5x38.1mm; default: as the paper allows"`
	Pitch        string   `json:"pitch,omitempty" doc:"distance between the starts of neighbouring labels such as 66.04x38.1mm; default: label plus gap"`
	Margin       string   `json:"margin,omitempty" doc:"one, two or four lengths as in CSS, such as 15.1mm,7.2mm; default: 10mm"`
	Gap          string   `json:"gap,omitempty" doc:"gap between labels: one length, or horizontal and vertical; default: 0mm"`
	StartAt      int      `json:"start_at,omitempty" minimum:"0" doc:"position of the first label on the first page, from 1; default: 1"`
	Offset       string   `json:"offset,omitempty" doc:"shift of all content to the right and down, such as -0.5mm,1mm; default: 0mm,0mm"`
	CropMarks    bool     `json:"crop_marks,omitempty" doc:"if true, prints cutting marks in the margin"`
	Footer       string   `json:"footer,omitempty" maxLength:"200" doc:"line in the bottom margin; {batch}, {from}, {to} and {page} are replaced"`
	Copies       int      `json:"copies,omitempty" minimum:"0" maximum:"9999" doc:"copies of each label on label printers; default: 1"`
}

// Package records which codes were handed to which printer.
type Package struct {
	ID                  int64         `json:"package"`
	ApplicationID       int64         `json:"application_id"`
	From                int64         `json:"code_start"`
	To                  int64         `json:"code_end"`
	Spare               int64         `json:"spare"`
	Proofs              int64         `json:"proofs" doc:"application_id of the package's proof codes; 0 = none"`
	Printer             string        `json:"printer"`
	Recipients          []string      `json:"recipients" doc:"public keys; empty = encrypted with a passphrase"`
	Formats             []string      `json:"formats"`
	Drawing             *LabelDrawing `json:"drawing,omitempty" doc:"layout of the labels"`
	OverlappingPackages []int64       `json:"overlapping_packages" doc:"earlier packages that contain codes of the range"`
	Reason              string        `json:"reason,omitempty"`
	CreatedBy           string        `json:"created_by"`
	CreatedAt           time.Time     `json:"created_at"`
	DownloadCount       int64         `json:"download_count" doc:"number of downloads started"`
	Spoiled             []CodeRange   `json:"spoiled"`
	RecalledAt          *time.Time    `json:"recalled_at,omitempty"`
	RecalledBy          string        `json:"recalled_by,omitempty"`
	Plan                *LabelPlan    `json:"plan,omitempty" doc:"plan of the labels, for a dry run, in which the package ID is 0"`
}

// Create records the hand-off of codes to a printer; Download then writes the file. A *Problem with status 409 means: another
// printer has the codes, some codes are frozen or void, or w has no Reason although too many packages contain the codes. With
// w.DryRun, Create stores nothing, and Plan in the response describes the labels.
func (c PackagesService) Create(ctx context.Context, batch int64, w PackageRequest) (Package, error) {
	return OpCreatePackage.call(ctx, c.transport, w, batch)
}

// PackagePassphrase is the request of Download.
type PackagePassphrase struct {
	Passphrase string `json:"passphrase,omitempty" doc:"at least 12 characters, never stored; for a package without recipients"`
}

// Download writes the file of a package to w. passphrase is "" if the package has recipients. The duration grows with the number of codes;
// limit the duration with ctx. After an error, the written data is not a valid package; repeat the call to get the complete package.
func (c PackagesService) Download(ctx context.Context, id int64, passphrase string, w io.Writer) error {
	in := PackagePassphrase{passphrase}
	body, err := encode(in)
	if err != nil {
		return err
	}
	r := OpDownloadPackage.request(c.transport, in, id)
	r.contentType, r.body = "application/json", bytes.NewReader(body)
	return c.pour(ctx, r, "application/age", w)
}

// PackageQuery selects packages.
type PackageQuery struct {
	Account       string `query:"account"`                    // If Account is "", packages of all accounts match.
	ApplicationID int64  `query:"application_id" minimum:"0"` // If ApplicationID is 0, packages of all applications match.
	After         int64  `query:"after" minimum:"0"`          // After is a package ID and selects only later packages.
	Pending       bool   `query:"pending" doc:"only packages that were neither downloaded nor recalled"`
	Limit         int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// PackageList is a page of packages.
type PackageList struct {
	Packages []Package `json:"packages"`
}

// List lists packages, sorted by ID.
func (c PackagesService) List(ctx context.Context, q PackageQuery) ([]Package, error) {
	reply, err := OpListPackages.call(ctx, c.transport, q)
	return reply.Packages, err
}

// Get returns one package. If the package does not exist, the result is a *Problem with status 404.
func (c PackagesService) Get(ctx context.Context, id int64) (Package, error) {
	return OpGetPackage.call(ctx, c.transport, Empty{}, id)
}

// Recall freezes the codes of a package, and blocks further downloads of the package. If the package has been recalled already, the
// result is a *Problem with status 409.
func (c PackagesService) Recall(ctx context.Context, id int64, note, actor string) (Package, error) {
	return OpRecallPackage.call(ctx, c.transport, PackageNote{note, actor}, id)
}

// VoidCodes records that the printer destroyed codes of a package: the codes become void permanently and are removed from the package.
func (c PackagesService) VoidCodes(ctx context.Context, id int64, ranges []CodeRange, note, actor string) (Package, error) {
	return OpMarkCodesSpoiled.call(ctx, c.transport, SpoiledCodes{ranges, PackageNote{note, actor}}, id)
}

// PackageNote is the reason for a change of a package, and its author.
type PackageNote struct {
	Note  string `json:"note,omitempty"`
	Actor string `json:"actor,omitempty"`
}

// SpoiledCodes are codes of a package that the printer destroyed.
type SpoiledCodes struct {
	Ranges []CodeRange `json:"ranges" minItems:"1" maxItems:"100000"`
	PackageNote
}

// PackageSigner is the key with which the server signs packages.
type PackageSigner struct {
	PublicKey      string `json:"public_key" doc:"ssh-ed25519 and the key in Base64"`
	AllowedSigners string `json:"allowed_signers" doc:"line for the allowed signers file of ssh-keygen -Y verify"`
	Fingerprint    string `json:"fingerprint" doc:"fingerprint, which the printer should confirm through another channel"`
}

// GetSigner returns the public key with which printers verify packages.
func (c PackagesService) GetSigner(ctx context.Context) (PackageSigner, error) {
	return OpGetPackageSigner.call(ctx, c.transport, Empty{})
}
