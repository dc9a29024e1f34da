package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// fourColumns is the content type of an import of codes.
const fourColumns = "text/plain"

// maxImportBody is the maximum size in bytes of an importCodes body: the maximum number of lines, each with a long prefix.
const maxImportBody = codes.MaxImportLines * 600

func (a codeAPI) createImport(ctx context.Context, in *appIDInput[client.NewImport]) (client.Batch, error) {
	n := in.Body
	b, err := a.Codes.BeginImport(acting(ctx, n.Actor), codes.NewImport{Account: in.AppID, ISV: n.ISV, ID: n.ID, Count: n.Count,
		Prefix: n.Prefix, Text: codes.TemplateOrder{Text: n.Text, GTIN: n.GTIN, Digits: n.FixedDigits, Weak: n.AllowGuessable}})
	return readAfter(ctx, err, a.showBatch, b)
}

func (a codeAPI) importCodes(ctx context.Context, in *struct {
	BatchPath
	adminroute.StreamBody
	client.CodeImportQuery
}) (client.CodesImported, error) {
	defer in.Answering()
	if kind, _, _ := mime.ParseMediaType(in.Header().Get("Content-Type")); kind != fourColumns {
		return client.CodesImported{}, huma.Error415UnsupportedMediaType("want Content-Type: " + fourColumns)
	}
	body := &bounded{r: in, remaining: maxImportBody + 1, arrived: in.Arrived}
	b, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID)
	if err != nil {
		return client.CodesImported{}, err
	}
	var done codes.ImportResult
	if b.TakesTexts() {
		done, err = a.Codes.ImportTexts(acting(ctx, in.Actor), in.ID, in.Line, in.Start, body)
	} else {
		done, err = a.Codes.ImportCodes(acting(ctx, in.Actor), in.ID, in.Line, body)
	}
	// A client that is still sending does not read the response, so the rest of the body is read first.
	_, _ = io.Copy(io.Discard, body)
	if errors.Is(err, errBroken) {
		return client.CodesImported{}, huma.Error400BadRequest("the list is incomplete; none of these codes was imported")
	}
	return client.CodesImported{Lines: done.Lines, Added: done.Added, Available: done.Stored},
		namingLines(err, "none of these codes was imported")
}

func (a codeAPI) undoImport(ctx context.Context, in *batchInput[client.ImportToUndo]) (client.ImportUndone, error) {
	w := in.Body
	done, err := a.Codes.UndoImport(acting(ctx, w.Actor), in.ID, codes.Range{From: w.From, To: w.To}, w.Note)
	return client.ImportUndone{Removed: done.Removed, Available: done.Stored, More: done.More}, err
}

// errBroken reports that a request body did not arrive completely.
var errBroken = errors.New("the body ended early")

// bounded is a request body with a maximum length. At the end of the body the connection's read deadline is removed, so that the import may
// take longer than the upload of the body.
type bounded struct {
	r         io.Reader
	remaining int
	arrived   func()
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.remaining == 0 {
		return 0, huma.NewError(http.StatusRequestEntityTooLarge,
			fmt.Sprintf("larger than %d MiB: split it into several calls", maxImportBody>>20))
	}
	n, err := b.r.Read(p[:min(len(p), b.remaining)])
	b.remaining -= n
	if err == io.EOF {
		b.arrived()
	} else if err != nil {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return n, err
}
