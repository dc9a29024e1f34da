package servertest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Transcripts are files of calls and their answers, which Replay makes again.
//
// A transcript is blocks with an empty line between them. A line of a block is
//
//	# …             a comment
//	seed NAME       in the first lines: the server's seed is testdata/seeds/NAME.yaml; without NAME, the lines below with spaces
//	guarded         in the first lines: the server is not --dev
//	listener        in the first lines: the scan API has a listener of its own
//	operator        from here on calls of the admin API have its token, and their bodies are JSON
//	show NAME…      from here on answers are told with these headers, where they have them
//	reset           the emulator returns to the seed
//	clock TIME      the server's clock is set (RFC 3339)
//	log TEXT        the server's log has the text; "no log TEXT", that it does not
//	METHOD PATH [as=NAME]   with the token of an account; of the admin and scan APIs, with what was taken as NAME
//	Name: value     a header of the request
//	only PATTERN    of the answer only what matches is told, in lines
//	{…}             its body; \n at the end is a line feed
//	body TEXT       its body that does not begin with {; both may have more lines
//	-> STATUS CONTENT-TYPE
//	Name: value     the headers of show
//	{…}             the answer, to the byte; an empty line is ¶, the same revision the same <revision N>, and after a scan
//	                the same drawn id or key the same <id N>
//
// <URL> stands for the address of the server, and in a request <admin> for the admin token,
//
// and each line of a story that has no answer of its own (Server.Tell).
//
// Chance is seeded and the clock stands still, so tokens and request ids are the same in every run.
type Transcripts struct {
	Folder string
	Update bool // write the answers that come
	// Seed is the name of the seed of a transcript that names none.
	Seed string
	// Wire makes every call of the wire that is not answered 200 a fault.
	Wire bool
	// ScanListener gives the scan API a listener of its own in every transcript.
	ScanListener bool
	// Lines adds kinds of lines: a line of a transcript is a word of the map, and then what its function returns.
	Lines map[string]func(*testing.T, *Server) string
}

// Replay compares the answers with those in the transcripts, and returns the paths that were called; none if -run asked for some of
// the transcripts only.
func (o Transcripts) Replay(t *testing.T) (paths []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.Folder, "*.txt"))
	require.True(t, err == nil && len(files) != 0, "%s: %d transcripts, %v", o.Folder, len(files), err)
	ran := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			ran++
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			want := string(text)
			p := &player{t: t, o: o, s: Start(t, o.options(t, want)), names: map[string]string{}, named: map[string]int{}}
			p.taken = map[string]string{"URL": p.s.URL, "admin": AdminToken}
			p.s.Reseed()
			got := p.play(want)
			paths = append(paths, p.paths...)
			if o.Update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
			for i := range gotLines {
				if i >= len(wantLines) || gotLines[i] != wantLines[i] {
					t.Fatalf("%s:%d\ngot  %s\nwant %s", file, i+1, gotLines[i], wantLines[min(i, len(wantLines)-1)])
				}
			}
		})
	}
	if ran < len(files) {
		return nil
	}
	return paths
}

// options reads the first block of a transcript.
func (o Transcripts) options(t *testing.T, text string) (options Options) {
	t.Helper()
	head, _, _ := strings.Cut(text, "\n\n")
	name := o.Seed
	options.ScanListener = o.ScanListener
	for line := range strings.SplitSeq(head, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "seed":
			name = rest
		case "":
			options.Seed += line + "\n"
		case "guarded":
			options.Guarded = true
		case "listener":
			options.ScanListener = true
		}
	}
	if name != "" {
		seed, err := os.ReadFile("testdata/seeds/" + name + ".yaml")
		require.NoError(t, err)
		options.Seed = string(seed)
	}
	return options
}

type player struct {
	t        *testing.T
	o        Transcripts
	s        *Server
	operator bool
	shown    []string
	scanned  bool // so that what is drawn is not the same in every run
	paths    []string
	last     Answer
	taken    map[string]string
	names    map[string]string // of what is drawn
	named    map[string]int    // by kind
}

var (
	requestLine = regexp.MustCompile(`^[A-Z]+ /`)
	emptyLine   = regexp.MustCompile(`(?m)^$`)
)

// play sends what a transcript says and returns it with the answers that came.
func (p *player) play(text string) string {
	var blocks []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var kept, header, body []string
		var request string
		var only *regexp.Regexp
	lines:
		for line := range strings.SplitSeq(block, "\n") {
			text, isBody := strings.CutPrefix(line, "body ")
			switch {
			case request == "" && (line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ")):
			case request == "" && requestLine.MatchString(line):
				request = line
			case request == "":
				line = p.say(line)
			case strings.HasPrefix(line, "->"):
				break lines
			case strings.HasPrefix(line, "only "):
				only = regexp.MustCompile(line[5:])
			case isBody || strings.HasPrefix(line, "{"):
				if cut, ended := strings.CutSuffix(text, `\n`); ended {
					text = cut + "\n"
				}
				body = append(body, text)
			default:
				header = append(header, Fill(line, p.taken))
			}
			kept = append(kept, line)
		}
		if request != "" {
			p.send(Fill(request, p.taken), Fill(strings.Join(body, "\n"), p.taken), header)
			kept = append(kept, fmt.Sprintf("-> %d %s", p.last.Status, p.last.Header.Get("Content-Type")))
			for _, name := range p.shown {
				for _, value := range p.last.Header.Values(name) {
					kept = append(kept, name+": "+p.steady(value))
				}
			}
			answer := p.steady(strings.TrimSuffix(p.last.Body, "\n"))
			if only != nil {
				answer = strings.Join(only.FindAllString(answer, -1), "\n")
			}
			if answer != "" {
				kept = append(kept, emptyLine.ReplaceAllString(answer, "¶"))
			}
		}
		blocks = append(blocks, strings.Join(kept, "\n"))
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

var (
	// drawn are the ids of scans, tickets and keys, and keys, and drawnAfter the parts of the answers after a scan that are not the
	// same in every run, because the log of scans draws beside.
	drawn      = regexp.MustCompile(`\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b|\bqr[a-z]_[0-9A-Za-z_-]{32,}`)
	drawnAfter = regexp.MustCompile(`\b([0-9a-f]{8}-)[0-9a-f]{8}-[0-9a-f]{8}|( hint: \[)[0-9A-Za-z]+`)
	// hashes and revisions are of texts with secrets as they are sealed.
	hashes    = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	revisions = regexp.MustCompile(`("revision":"|^")[0-9A-Za-z_.-]{22,}"`)
)

// steady returns an answer without what differs from run to run.
func (p *player) steady(answer string) string {
	name := func(kind string) func(string) string {
		return func(text string) string {
			if p.names[text] == "" {
				p.named[kind]++
				p.names[text] = fmt.Sprintf("<%s %d>", kind, p.named[kind])
			}
			return p.names[text]
		}
	}
	answer = hashes.ReplaceAllStringFunc(strings.ReplaceAll(answer, p.s.URL, "<URL>"), name("hash"))
	answer = revisions.ReplaceAllStringFunc(answer, func(text string) string {
		end := strings.LastIndexByte(text[:len(text)-1], '"') + 1
		return text[:end] + name("revision")(text[end:len(text)-1]) + `"`
	})
	if !p.scanned {
		return answer
	}
	return drawnAfter.ReplaceAllString(drawn.ReplaceAllStringFunc(answer, name("id")), "$1$2…")
}

// say does what a line without an answer says, and returns the line as it is so.
func (p *player) say(line string) string {
	word, rest, _ := strings.Cut(line, " ")
	p.scanned = p.scanned || strings.Contains(line, " /scan/v1/resolve ")
	switch tells := p.o.Lines[word]; {
	case tells != nil:
		return strings.TrimRight(word+" "+tells(p.t, p.s), " ")
	case word == "seed" || line == "guarded" || line == "listener":
	case line == "operator":
		p.operator = true
	case word == "show":
		p.shown = strings.Fields(rest)
	case line == "reset":
		p.s.Renew(p.t)
	case word == "clock":
		p.s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, rest))
	case word == "log":
		assert.True(p.t, strings.Contains(p.s.Log(), rest), "the log does not have %q", rest)
	case strings.HasPrefix(line, "no log "):
		assert.True(p.t, !strings.Contains(p.s.Log(), line[7:]), "the log has %q", line[7:])
	default:
		p.last = p.s.TellLine(line, p.last, p.taken, nil)
	}
	return line
}

// send makes a call, with the token that the request names.
func (p *player) send(request, body string, header []string) {
	has := func(name string) bool {
		return slices.ContainsFunc(header, func(line string) bool { return strings.HasPrefix(line, name+":") })
	}
	request, name, named := strings.Cut(request, " as=")
	method, path, _ := strings.Cut(request, " ")
	admin := strings.HasPrefix(path, "/admin/")
	wire := !admin && !strings.HasPrefix(path, "/scan/")
	p.scanned = p.scanned || path == "/scan/v1/resolve"
	p.paths = append(p.paths, "/"+strings.TrimLeft(strings.SplitN(path, "?", 2)[0], "/"))
	switch {
	case named && !wire:
		require.True(p.t, p.taken[name] != "", "%s: nothing was taken as %s", request, name)
		header = append(header, "Authorization: Bearer "+p.taken[name])
	case named:
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		path += join + "access_token=" + p.s.Token(name)
	case p.operator && admin && !has("Authorization"):
		header = append(header, "Authorization: Bearer "+AdminToken)
	}
	if p.operator && admin && body != "" && !has("Content-Type") {
		header = append(header, "Content-Type: application/json")
	}
	r := p.s.Request(method, Unfold(path), Unfold(body), header...)
	if !has("User-Agent") {
		r.Header.Set("User-Agent", "")
	}
	p.last = p.s.Send(r)
	p.scanned = p.scanned || p.last.Status == http.StatusTemporaryRedirect // a browser that follows a link is a scan
	assert.True(p.t, !p.o.Wire || !wire || p.last.Status == http.StatusOK, "%s answers %d, want 200", request, p.last.Status)
	if strings.HasPrefix(p.last.Header.Get("Content-Type"), "image/") {
		p.last.Body = "{a picture}"
	}
}
