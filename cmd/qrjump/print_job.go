package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/print/labels"
)

// printJob is a job that writes labels or lists and that a later run can resume; FILE.job stores the settings and the progress.
type printJob struct {
	Settings json.RawMessage `json:"settings"` // All settings that determine the output, and the version of this program.
	Labels   int64           `json:"labels"`   // Labels is the number of labels that are safely on disk.
	Bytes    int64           `json:"bytes"`    // Bytes is the size of the file, if the job writes a single stream.
	Parts    int             `json:"parts"`    // Parts is the number of complete files, if the job writes several files.

	out string
}

// beginJob starts a job, or resumes an interrupted job.
func beginJob(f *rangeFlags, settings map[string]any) (*printJob, error) {
	settings["version"], settings["batch"], settings["range"] = version.Number(), f.ID, f.Range
	settings["every"], settings["shuffle"] = f.Every, f.Shuffle
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	j := &printJob{Settings: text, out: f.Out}
	if f.Out == "-" {
		if f.Resume {
			return nil, misused("print_job.resume_goes_on_with_a")
		}
		return j, nil
	}
	oldData, err := os.ReadFile(j.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return j, nil
	case err != nil:
		return nil, fault("print_job.reading_how_far_it_was", err)
	}
	broke := &printJob{out: f.Out}
	err = json.Unmarshal(oldData, broke)
	if err != nil || broke.Settings == nil || broke.Labels < 0 || broke.Bytes < 0 || broke.Parts < 0 {
		return nil, fault("print_job.does_not_say_how_far", j.path())
	}
	if !f.Resume {
		return j, nil
	}
	if string(broke.Settings) != string(text) {
		return nil, misused("print_job.was_begun_as_and_not", f.Out, broke.Settings, text)
	}
	return broke, nil
}

func (j *printJob) path() string { return j.out + ".job" }

// save writes the job's progress to FILE.job.
func (j *printJob) save() error {
	if j.out == "-" {
		return nil
	}
	_, err := replaceFile(j.path(), func(w io.Writer) error { return json.NewEncoder(w).Encode(j) })
	return err
}

// start deletes the progress of an older job with the same output file, unless this job resumes it.
func (j *printJob) start() error {
	if j.Labels > 0 || j.out == "-" {
		return nil
	}
	return j.end()
}

// end deletes FILE.job after all labels are written.
func (j *printJob) end() error {
	if err := os.Remove(j.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// broken adds to an error how to resume the job, if some labels are already written.
func (j *printJob) broken(err error) error {
	if j.Labels == 0 || j.out == "-" {
		return err
	}
	return hintError{error: err, next: tr("print_job.are_written_the_same_command", j.Labels)}
}

// saveEvery is the number of bytes of a stream between two checkpoints.
const saveEvery = 8 << 20

// stream writes a file label by label; fill must call put for each label, beginning with the label number in its parameter from.
func (j *printJob) stream(s *session, header string, fill func(from int64, put func(label []byte) error) error) (size int64, err error) {
	if j.out == "-" {
		w := bufio.NewWriterSize(s.out, 256<<10)
		if _, err := w.WriteString(header); err != nil {
			return 0, err
		}
		if err := fill(0, func(label []byte) error { _, err := w.Write(label); return err }); err != nil {
			return 0, err
		}
		return 0, w.Flush()
	}
	if err := j.start(); err != nil {
		return 0, err
	}
	out := atomicfile.Target(j.out)
	part := out + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fault("batch_download.writing", part, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fault("batch_download.writing", part, err)
	}
	if info.Size() < j.Bytes {
		return 0, fault("print_job.has_bytes_and_says_begin", part, info.Size(), j.path(), j.Bytes)
	}
	if err := f.Truncate(j.Bytes); err != nil {
		return 0, fault("batch_download.writing", part, err)
	}
	if _, err := f.Seek(j.Bytes, io.SeekStart); err != nil {
		return 0, fault("batch_download.writing", part, err)
	}
	w := &marked{job: j, file: f, w: bufio.NewWriterSize(f, 256<<10), labels: j.Labels, bytes: j.Bytes}
	if w.bytes == 0 {
		if err := w.put(header, 0); err != nil {
			return 0, err
		}
	}
	if err := fill(j.Labels, func(label []byte) error { return w.put(string(label), 1) }); err != nil {
		if w.labels == 0 {
			return 0, errors.Join(err, os.Remove(part))
		}
		return 0, j.broken(errors.Join(err, w.mark()))
	}
	if err := w.mark(); err != nil {
		return 0, err
	}
	if err := os.Rename(part, out); err != nil {
		return 0, fault("batch_download.writing", out, err)
	}
	return w.bytes, j.end()
}

// marked is an output stream that saves its progress regularly.
type marked struct {
	job                  *printJob
	file                 *os.File
	w                    *bufio.Writer
	labels, bytes, since int64
}

func (m *marked) put(text string, n int64) error {
	written, err := m.w.WriteString(text)
	m.bytes, m.since, m.labels = m.bytes+int64(written), m.since+int64(written), m.labels+n
	if err != nil {
		return fault("batch_download.writing", m.file.Name(), err)
	}
	if m.since < saveEvery {
		return nil
	}
	m.since = 0
	return m.mark()
}

// mark saves the progress of the stream after the data is synced to disk.
func (m *marked) mark() error {
	for _, step := range []func() error{m.w.Flush, m.file.Sync} {
		if err := step(); err != nil {
			return fault("batch_download.writing", m.file.Name(), err)
		}
	}
	m.job.Labels, m.job.Bytes = m.labels, m.bytes
	return m.job.save()
}

// printedFile is one file of a job.
type printedFile struct {
	File   string `json:"file"`
	Labels int64  `json:"labels"`
	Bytes  int64  `json:"bytes"`
}

// parts divides the labels among several files. The number of labels per file is value; 0 = a single file. The first file has only value -
// lead labels, because its first page begins with lead empty places. The function rows returns the rows from a label number on.
func (j *printJob) parts(s *session, total, value, lead int64, rows func(from int64) (iter.Seq2[labels.Row, error], func(), error),
	write func(w io.Writer, rows iter.Seq2[labels.Row, error], first int64) error) (files []printedFile, err error) {
	last := int64(0) // the number of the last file
	if value > 0 && value < total+lead {
		last = (total + lead + value - 1) / value
	}
	// Files of an earlier run have numbers without gaps.
	if next := partName(j.out, int(last)+1, true); value > 0 {
		if _, err := os.Lstat(next); err == nil {
			return nil, fault("print_job.file_of_another_run", next)
		}
	}
	if value == 0 || value > total+lead {
		value = total + lead
	}
	isMany := value < total+lead
	if j.out == "-" && isMany {
		return nil, misused("print_job.several_files_do_not_go")
	}
	if err := j.start(); err != nil {
		return nil, err
	}
	from, clean, err := rows(j.Labels)
	if err != nil {
		return nil, err
	}
	defer clean()
	next, stop := iter.Pull2(from)
	defer stop()
	for j.Labels < total {
		n := min(value, total-j.Labels)
		if j.Labels == 0 {
			n = min(value-lead, total)
		}
		fill := func(w io.Writer) error { return write(w, takeRows(s.ctx, next, n), j.Labels) }
		if j.out == "-" {
			w := bufio.NewWriterSize(s.out, 256<<10)
			if err := fill(w); err != nil {
				return nil, err
			}
			return nil, w.Flush()
		}
		name := partName(j.out, j.Parts+1, isMany)
		size, err := replaceFile(name, fill)
		if err != nil {
			return nil, j.broken(err)
		}
		files = append(files, printedFile{name, n, size})
		if j.Labels, j.Parts = j.Labels+n, j.Parts+1; j.Labels == total {
			break
		}
		if err := j.save(); err != nil {
			return nil, err
		}
	}
	return files, j.end()
}

// takeRows returns the next n rows.
func takeRows(ctx context.Context, next func() (labels.Row, error, bool), n int64) iter.Seq2[labels.Row, error] {
	return func(yield func(labels.Row, error) bool) {
		for range n {
			r, err, ok := next()
			if !ok {
				err = fault("print_job.the_rows_ended_early")
			}
			if err = cmp.Or(err, ctx.Err()); !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// partName returns the file name of a part, such as sheet-0001.pdf for sheet.pdf.
func partName(out string, part int, isMany bool) string {
	if !isMany {
		return out
	}
	extension := filepath.Ext(out)
	return fmt.Sprintf("%s-%04d%s", strings.TrimSuffix(out, extension), part, extension)
}
