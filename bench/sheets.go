package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
)

// printed is the cost of a PDF of labels.
type printed struct {
	cpu   time.Duration
	peak  float64 // MiB
	bytes int64
}

// sheet runs "qrjump batch sheet" for a number of labels and discards the PDF.
func (b *bench) sheet(ctx context.Context, q *qrjump, batch int64, labels int) (printed, error) {
	cmd := exec.CommandContext(ctx, b.server, "batch", "sheet", strconv.FormatInt(batch, 10), fmt.Sprintf("0-%d", labels-1),
		"--server", q.url, "--line", "{serial}", "--out", "-")
	cmd.Env = append(os.Environ(), "QRJUMP_APPID=wxserviceacct0001", "QRJUMP_SECRET=bench-secret0002", "QRJUMP_PACKAGE_KEY="+marketcodeKey)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return printed{}, err
	}
	if err := cmd.Start(); err != nil {
		return printed{}, err
	}
	// Poll VmHWM: the maximum RSS of the exit status includes the memory of this process at the fork.
	var n int64
	var peak float64
	for piece := int64(1); err == nil && piece > 0; n += piece {
		peak = max(peak, memory(cmd.Process.Pid, "VmHWM")/(1<<20))
		if piece, err = io.CopyN(io.Discard, out, 1<<20); err == io.EOF {
			n, err = n+piece, nil
			break
		}
	}
	err = cmp.Or(err, cmd.Wait())
	if err != nil {
		return printed{}, fmt.Errorf("a sheet of %d labels: %w", labels, err)
	}
	return printed{cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak, n}, nil
}

// encodeSymbols returns the processor time of the barcode library alone for the symbols of texts.
func encodeSymbols(texts []string) (time.Duration, error) {
	before, err := cpu(os.Getpid())
	if err != nil {
		return 0, err
	}
	for _, text := range texts {
		if _, err := qr.Encode(text, qr.Q, qr.Auto); err != nil {
			return 0, err
		}
	}
	after, err := cpu(os.Getpid())
	return after - before, err
}

// sheets measures PDFs of labels against the library that encodes their symbols, and the peak memory for few and for many
// labels.
func (b *bench) sheets(ctx context.Context) error {
	count := max(20_000, int(1_000_000*b.scale)/10_000*10_000)
	const few = 10_000
	q, err := b.serveCodes(ctx, serve{data: filepath.Join(b.work, "sheets"), core: -1})
	if err != nil {
		return err
	}
	defer q.stop()
	token, err := q.token(ctx)
	if err != nil {
		return err
	}
	batch, _, err := q.batch(ctx, token, "sheets", max(count, segmentSize))
	if err != nil {
		return err
	}
	rows, err := q.plainSegment(ctx, token, batch)
	if err != nil {
		return err
	}
	var texts []string
	for line := range strings.Lines(string(rows)) {
		if texts = append(texts, strings.Fields(line)[3]); len(texts) == few {
			break
		}
	}
	b.peer("github.com/boombuler/barcode " + moduleVersion("github.com/boombuler/barcode"))
	var used, anchor, peak []float64
	for round := range b.rounds + 1 {
		sheet, err := b.sheet(ctx, q, batch, few)
		if err != nil {
			return err
		}
		plain, err := encodeSymbols(texts)
		if err != nil {
			return err
		}
		if round > 0 {
			used, anchor, peak = append(used, sheet.cpu.Seconds()), append(anchor, plain.Seconds()), append(peak, sheet.peak)
		}
	}
	all, err := b.sheet(ctx, q, batch, count)
	if err != nil {
		return err
	}
	b.check("A PDF of %d labels was downloaded completely; it has %d bytes.", count, all.bytes)
	b.row(Row{What: "10,000 labels as PDF, CPU, with download", Anchor: "the library that draws the symbols, alone", Target: 1.5,
		Values: ratios(used, anchor), Main: true})
	b.row(Row{What: "peak memory of 10,000 labels as PDF", Anchor: "–", Unit: "MiB", Target: 128, Values: peak, Main: true})
	b.row(Row{What: fmt.Sprintf("peak memory of %d labels as PDF", count), Anchor: "–", Unit: "MiB", Target: 128,
		Values: []float64{all.peak}, Main: true, Note: "one run"})
	return nil
}
