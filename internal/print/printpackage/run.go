package printpackage

import (
	"regexp"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

// Verdict is the result of checking a read code against a job.
type Verdict string

// The verdicts.
const (
	Good    Verdict = "good"    // of the job, read for the first time
	Reprint Verdict = "again"   // of a range that is printed again on purpose
	Double  Verdict = "double"  // read before, and not meant to be
	Spoiled Verdict = "spoiled" // of a range that was destroyed: it must not be there
	Proof   Verdict = "proof"   // a proof code, which belongs on no product
	Foreign Verdict = "foreign" // no code of the job
	Unread  Verdict = "unread"  // the camera saw no code
)

// Run judges what cameras read during a printing run. It is for one goroutine.
type Run struct {
	Job *Job
	// Spoiled were destroyed, Reprinted are printed a second time on purpose.
	Spoiled, Reprinted codes.Set
	// NoRead is the text that the camera sends if it saw no code.
	NoRead string

	seen  [2][]uint8 // how often each place was read, by kind of reading
	lines int64
	found map[Verdict][]Finding
	count map[Verdict]int64
}

// Finding is a line of the log that is not good.
type Finding struct {
	Line  int64  `json:"line"`
	Index *int64 `json:"index,omitempty"` // of a code of the job
	Read  string `json:"read,omitempty"`  // of a foreign one
}

// MostFindings bounds how many findings of a verdict are kept; all are counted.
const MostFindings = 100_000

// NewRun begins with nothing read.
func NewRun(j *Job) *Run {
	r := &Run{Job: j, NoRead: "NOREAD", found: map[Verdict][]Finding{}, count: map[Verdict]int64{}}
	for i := range r.seen {
		r.seen[i] = make([]uint8, j.codes()+j.Proofs)
	}
	return r
}

// Read judges one line of a camera's log. The index is that of a code of the job,
// -1 for any other.
func (r *Run) Read(read string) (v Verdict, index int64) {
	r.lines++
	v, index = r.verdictOn(read)
	r.count[v]++
	if v == Good || v == Reprint || v == Unread || len(r.found[v]) == MostFindings {
		return v, index
	}
	f := Finding{Line: r.lines}
	if index >= 0 {
		f.Index = &index
	} else if v == Foreign {
		f.Read = read
	}
	r.found[v] = append(r.found[v], f)
	return v, index
}

func (r *Run) verdictOn(read string) (Verdict, int64) {
	pos, kind, ok := r.Job.find(read)
	if bare := unwrapped(read); !ok && bare != read {
		read = bare
		pos, kind, ok = r.Job.find(read)
	}
	if read == "" || read == r.NoRead {
		return Unread, -1
	}
	if end, is := r.Job.trimRead(read); !ok && is {
		pos, kind, ok = r.Job.find(end)
	}
	switch {
	case !ok:
		return Foreign, -1
	case int64(pos) >= r.Job.codes():
		return Proof, -1
	}
	index := r.Job.From + int64(pos)
	prev := r.seen[kind][pos]
	if prev < 255 {
		r.seen[kind][pos]++
	}
	switch {
	case r.Spoiled.Has(index):
		return Spoiled, index
	case prev == 0:
		return Good, index
	case prev == 1 && r.Reprinted.Has(index):
		return Reprint, index
	}
	return Double, index
}

// identifier matches the symbology identifier that scanners send before a symbol's text: ]Q1 for QR codes, ]d2 for Data Matrix.
// ISO/IEC 15424.
var identifier = regexp.MustCompile(`^\][A-Za-z][0-9A-Za-z]`)

// unwrapped returns a read without what cameras and spreadsheets put around it: blanks, a byte order mark, quotes, the identifier of its kind
// of symbol.
func unwrapped(read string) string {
	for {
		bare := strings.TrimSpace(strings.TrimPrefix(read, "\ufeff"))
		for _, quote := range []string{`"`, "'"} {
			if len(bare) >= 2 && strings.HasPrefix(bare, quote) && strings.HasSuffix(bare, quote) {
				bare = bare[1 : len(bare)-1]
			}
		}
		if bare = identifier.ReplaceAllString(bare, ""); bare == read {
			return bare
		}
		read = bare
	}
}

// Report is the result of a run.
type Report struct {
	Package       int64 `json:"package"`
	ApplicationID int64 `json:"application_id"`
	Lines         int64 `json:"lines"`
	Codes         int64 `json:"codes"` // that were ordered: all but the spare ones
	Read          int64 `json:"read"`  // different codes of the job
	// Missing were ordered, were never read, and are not spoiled.
	Missing      []codes.Range `json:"missing"`
	MissingCodes int64         `json:"missing_codes"`
	// SpareUsed were read of the spare ones. OverRun is by how many the good
	// labels exceed what was ordered.
	SpareUsed int64             `json:"spare_used"`
	OverRun   int64             `json:"over_run"`
	Count     map[Verdict]int64 `json:"count"`
	Found     struct {
		Double  []Finding `json:"double"`
		Foreign []Finding `json:"foreign"`
		Spoiled []Finding `json:"spoiled"`
		Proof   []Finding `json:"proof"`
	} `json:"found"`
	// FalseRate is the probability that a foreign code passed.
	FalseRate float64 `json:"false_rate"`
	// Hint says what is in the way where no read is a code of the job.
	Hint string `json:"hint,omitempty"`
}

// Clean reports whether everything that was ordered is there once, and nothing
// else.
func (r Report) Clean() bool {
	return r.MissingCodes == 0 && r.OverRun == 0 &&
		r.Count[Double]+r.Count[Foreign]+r.Count[Spoiled]+r.Count[Proof] == 0
}

// Report sums up what was read until now.
func (r *Run) Report() Report {
	j := r.Job
	done := Report{Package: j.Package, ApplicationID: j.ApplicationID, Lines: r.lines, Codes: j.codes() - j.Spare,
		Missing: []codes.Range{}, Count: r.count, FalseRate: j.FalseRate}
	var good int64
	for code := range j.codes() {
		index := j.From + code
		read, spare, spoiled := r.seen[readText][code]|r.seen[readSerial][code] != 0, code >= done.Codes, r.Spoiled.Has(index)
		if read {
			done.Read++
		}
		switch {
		case read && !spoiled:
			good++
			if spare {
				done.SpareUsed++
			}
		case !read && !spare && !spoiled:
			done.MissingCodes++
			if n := len(done.Missing); n > 0 && done.Missing[n-1].To == index-1 {
				done.Missing[n-1].To = index
			} else if n < MostFindings {
				done.Missing = append(done.Missing, codes.Range{From: index, To: index})
			}
		}
	}
	done.OverRun = max(0, good-done.Codes)
	for v, to := range map[Verdict]*[]Finding{Double: &done.Found.Double, Foreign: &done.Found.Foreign, Spoiled: &done.Found.Spoiled,
		Proof: &done.Found.Proof} {
		*to = append([]Finding{}, r.found[v]...)
	}
	return done
}
