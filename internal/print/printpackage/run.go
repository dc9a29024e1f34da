package printpackage

import (
	"regexp"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

// Verdict is the result for one reading of a camera at the printing line, compared with the codes of a job.
type Verdict string

// The verdicts.
const (
	Good    Verdict = "good"    // a code of the job, read for the first time
	Reprint Verdict = "again"   // a code in a range that is reprinted on purpose
	Double  Verdict = "double"  // a code that was read before and is not reprinted on purpose
	Spoiled Verdict = "spoiled" // a code in a range that was destroyed and must not appear
	Proof   Verdict = "proof"   // a proof code, which must not be on a product
	Foreign Verdict = "foreign" // not a code of the job
	Unread  Verdict = "unread"  // the camera recognized no code
)

// Run checks the codes that cameras read during a print run. Run is not safe for concurrent use.
type Run struct {
	Job *Job
	// Spoiled contains the indexes of destroyed labels; Reprinted contains the indexes of labels printed again on purpose.
	Spoiled, Reprinted codes.Set
	// NoRead is the text that the camera sends when it recognizes no code.
	NoRead string

	readCounts [2][]uint8 // how often each position was read, by kind of text
	lines      int64
	found      map[Verdict][]Finding
	count      map[Verdict]int64
}

// Finding is a faulty line of the camera's log.
type Finding struct {
	Line  int64  `json:"line"`
	Index *int64 `json:"index,omitempty"` // index of the code, for a code of the job
	Read  string `json:"read,omitempty"`  // the text that the camera read, for a foreign code
}

// MaxFindings limits the findings that are kept per verdict; all findings are counted.
const MaxFindings = 100_000

// NewRun returns a Run in which no code has been read.
func NewRun(j *Job) *Run {
	r := &Run{Job: j, NoRead: "NOREAD", found: map[Verdict][]Finding{}, count: map[Verdict]int64{}}
	for i := range r.readCounts {
		r.readCounts[i] = make([]uint8, j.codes()+j.Proofs)
	}
	return r
}

// Read checks one line of a camera's log. index is the index of a code of the job; -1 for other codes.
func (r *Run) Read(read string) (v Verdict, index int64) {
	r.lines++
	v, index = r.verdictOn(read)
	r.count[v]++
	if v == Good || v == Reprint || v == Unread || len(r.found[v]) == MaxFindings {
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
	prev := r.readCounts[kind][pos]
	if prev < 255 {
		r.readCounts[kind][pos]++
	}
	switch {
	case r.Spoiled.Contains(index):
		return Spoiled, index
	case prev == 0:
		return Good, index
	case prev == 1 && r.Reprinted.Contains(index):
		return Reprint, index
	}
	return Double, index
}

// identifier matches the symbology identifier that scanners send before a symbol's text: ]Q1 for QR codes, ]d2 for Data Matrix.
// ISO/IEC 15424.
var identifier = regexp.MustCompile(`^\][A-Za-z][0-9A-Za-z]`)

// unwrapped removes additions of cameras and spreadsheets around a code text: blanks, a byte order mark, quotes, a symbology identifier.
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

// Report is the result of a print run.
type Report struct {
	Package       int64 `json:"package"`
	ApplicationID int64 `json:"application_id"`
	Lines         int64 `json:"lines"`
	Codes         int64 `json:"codes"` // number of ordered codes, without spare codes
	Read          int64 `json:"read"`  // number of distinct codes of the job that were read
	// Missing lists ordered codes that were not read and are not spoiled.
	Missing      []codes.Range     `json:"missing"`
	MissingCodes int64             `json:"missing_codes"`
	SpareUsed    int64             `json:"spare_used"` // number of spare codes that were read
	OverRun      int64             `json:"over_run"`   // number of good labels beyond the number of ordered codes
	Count        map[Verdict]int64 `json:"count"`
	Found        struct {
		Double  []Finding `json:"double"`
		Foreign []Finding `json:"foreign"`
		Spoiled []Finding `json:"spoiled"`
		Proof   []Finding `json:"proof"`
	} `json:"found"`
	// FalseRate is the probability that a foreign code was accepted.
	FalseRate float64 `json:"false_rate"`
	// Hint is the likely cause if no code of the job was read.
	Hint string `json:"hint,omitempty"`
}

// Clean reports whether every ordered code was read exactly once and there are no faulty lines.
func (r Report) Clean() bool {
	return r.MissingCodes == 0 && r.OverRun == 0 && r.Count[Double]+r.Count[Foreign]+r.Count[Spoiled]+r.Count[Proof] == 0
}

// Report returns a summary of everything read so far.
func (r *Run) Report() Report {
	j := r.Job
	done := Report{Package: j.Package, ApplicationID: j.ApplicationID, Lines: r.lines, Codes: j.codes() - j.Spare,
		Missing: []codes.Range{}, Count: r.count, FalseRate: j.FalseRate}
	var good int64
	for code := range j.codes() {
		index := j.From + code
		read := r.readCounts[readText][code]|r.readCounts[readSerial][code] != 0
		spare, spoiled := code >= done.Codes, r.Spoiled.Contains(index)
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
			} else if n < MaxFindings {
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
