package adminapi

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

func (a codeAPI) listCodeRuns(ctx context.Context, in *struct {
	BatchPath
	From int64 `query:"from" minimum:"0"`
	To   int64 `query:"to" minimum:"0" doc:"last code_index; default: the last of the application"`
	Page
}) (client.CodeRuns, error) {
	shown := client.CodeRuns{Runs: []client.CodeRun{}}
	b, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID)
	if err != nil {
		return shown, err
	}
	r := codes.Range{From: in.From, To: in.To}
	if in.To == 0 {
		r.To = b.Count - 1
	}
	if err := b.CheckRange(r); err != nil {
		return shown, err
	}
	runs, hasMore := a.Codes.Memory.StateRuns(in.ID, r, a.Codes.Now(), in.Limit)
	shown.Runs, shown.More = mapped(runs, func(run codes.StateRun) client.CodeRun {
		codeRun := client.CodeRun{CodeRange: client.CodeRange(run.Range), Frozen: run.State.Frozen, Void: run.State.Void,
			Redeemed: run.State.Redeemed}
		if e := run.State.Activation; e != nil {
			binding := client.CodeBinding(e.Binding)
			codeRun.Active, codeRun.Activation, codeRun.Binding = true, e.Seq, &binding
		}
		return codeRun
	}), hasMore
	return shown, a.scans().addAlarms(ctx, in.ID, shown.Runs)
}

// maxListed is the maximum number of codes in one exported file.
const maxListed = 50_000

func (a codeAPI) listCodes(ctx context.Context, in *struct {
	BatchPath
	From int64 `query:"from" minimum:"0"`
	To   int64 `query:"to" minimum:"0" doc:"last code_index"`
}) (adminroute.File, error) {
	r := codes.Range{From: in.From, To: in.To}
	b, err := a.batchWith(ctx, in.ID, r)
	if err != nil {
		return adminroute.File{}, err
	}
	if n := r.To - r.From + 1; n > maxListed {
		return adminroute.File{}, refused("%d codes: at most %d are listed at once", n, maxListed)
	}
	name := fmt.Sprintf("codes-%d-%d-%d.csv", in.ID, r.From, r.To)
	return adminroute.File{Name: name, Type: "text/csv; charset=utf-8", Write: func(ctx context.Context, w io.Writer) error {
		out := bufio.NewWriterSize(w, 64<<10)
		fmt.Fprint(out, "index,code,code_text\r\n")
		err := a.Codes.EachPrint(ctx, b, r, func(i int64, code, text string) error {
			// Neither the code nor its text contains a comma or a quote, so no CSV quoting is needed. Imported codes may begin with a
			// character that starts a formula in a spreadsheet.
			_, err := fmt.Fprintf(out, "%d,%s,%s\r\n", i, adminroute.EscapeCSVFormula(code), adminroute.EscapeCSVFormula(text))
			return err
		})
		if err != nil {
			return err
		}
		return out.Flush()
	}}, nil
}
