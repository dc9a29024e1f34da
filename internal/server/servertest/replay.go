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

// Transcripts are files of requests and expected responses. Replay sends the requests and compares the responses.
//
// A transcript consists of blocks with an empty line between them. A line of a block is
//
//	# …             a comment
//	seed NAME       in the first block: the seed is testdata/seeds/NAME.yaml; without NAME, the indented lines below
//	guarded         in the first block: the server runs without --dev
//	listener        in the first block: the scan API has a separate listener
//	operator        later requests to the admin API have the admin token, and their bodies are JSON
//	show NAME…      later responses are written with these headers if they have them
//	reset           resets the emulator to the seed
//	clock TIME      sets the server's clock (RFC 3339)
//	log TEXT        fails the test unless the server's log contains the text; "no log TEXT" is the opposite
//	METHOD PATH [as=NAME]   with the token of an account; for the admin and scan APIs, with the variable NAME as token
//	Name: value     a header of the request
//	only PATTERN    writes only the matches in the response, one per line
//	{…}             the request body; \n at the end is a line feed
//	body TEXT       a request body that does not begin with {; both may have several lines
//	-> STATUS CONTENT-TYPE
//	Name: value     the headers of show
//	{…}             the response, byte by byte; an empty line is ¶, the same revision is the same <revision N>, and after a scan
//	                the same random id or key is the same <id N>
//
// and each command of a story that makes no wire call (Server.Tell). <URL> is the address of the server, and <admin> in a request the
// admin token. The random numbers are seeded and the clock is frozen, so tokens and request ids are the same in every run.
type Transcripts struct {
	Folder string
	Update bool // write the actual responses to the files
	// Seed is the default of the line seed.
	Seed string
	// Wire fails the test if a wire call does not return status 200.
	Wire bool
	// ScanListener gives the scan API a separate listener in every transcript.
	ScanListener bool
	// Lines adds commands: the line is written as the command and the text that its function returns.
	Lines map[string]func(*testing.T, *Server) string
}

// Replay replays all transcripts and returns the paths of their requests. The result is nil if -run selects only some of the transcripts.
func (o Transcripts) Replay(t *testing.T) (paths []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.Folder, "*.txt"))
	require.True(t, err == nil && len(files) != 0, "%s: %d transcripts, %v", o.Folder, len(files), err)
	ran := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			ran++
			content := require.Value(os.ReadFile(file))(t)
			want := string(content)
			p := &player{t: t, o: o, s: Start(t, o.options(t, want)), placeholders: map[string]string{}, counts: map[string]int{}}
			p.vars = map[string]string{"URL": p.s.URL, "admin": AdminToken}
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
	block, _, _ := strings.Cut(text, "\n\n")
	name := o.Seed
	options.ScanListener = o.ScanListener
	for line := range strings.SplitSeq(block, "\n") {
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
		seed := require.Value(os.ReadFile("testdata/seeds/" + name + ".yaml"))(t)
		options.Seed = string(seed)
	}
	return options
}

type player struct {
	t            *testing.T
	o            Transcripts
	s            *Server
	isOperator   bool
	shownHeaders []string
	hasScanned   bool // random numbers differ between runs after the first scan
	paths        []string
	last         Answer
	vars         map[string]string
	placeholders map[string]string // by random text
	counts       map[string]int    // placeholders by kind
}

var (
	requestPattern   = regexp.MustCompile(`^[A-Z]+ /`)
	emptyLinePattern = regexp.MustCompile(`(?m)^$`)
)

// play runs a transcript and returns it with the actual responses.
func (p *player) play(text string) string {
	var blocks []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var out, header, body []string
		var request string
		var only *regexp.Regexp
	lines:
		for line := range strings.SplitSeq(block, "\n") {
			text, isBody := strings.CutPrefix(line, "body ")
			switch {
			case request == "" && (line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ")):
			case request == "" && requestPattern.MatchString(line):
				request = line
			case request == "":
				line = p.runLine(line)
			case strings.HasPrefix(line, "->"):
				break lines
			case strings.HasPrefix(line, "only "):
				only = regexp.MustCompile(line[5:])
			case isBody || strings.HasPrefix(line, "{"):
				if trimmed, ok := strings.CutSuffix(text, `\n`); ok {
					text = trimmed + "\n"
				}
				body = append(body, text)
			default:
				header = append(header, ExpandVariables(line, p.vars))
			}
			out = append(out, line)
		}
		if request != "" {
			p.send(ExpandVariables(request, p.vars), ExpandVariables(strings.Join(body, "\n"), p.vars), header)
			out = append(out, fmt.Sprintf("-> %d %s", p.last.Status, p.last.Header.Get("Content-Type")))
			for _, name := range p.shownHeaders {
				for _, value := range p.last.Header.Values(name) {
					out = append(out, name+": "+p.normalize(value))
				}
			}
			answer := p.normalize(strings.TrimSuffix(p.last.Body, "\n"))
			if only != nil {
				answer = strings.Join(only.FindAllString(answer, -1), "\n")
			}
			if answer != "" {
				out = append(out, emptyLinePattern.ReplaceAllString(answer, "¶"))
			}
		}
		blocks = append(blocks, strings.Join(out, "\n"))
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

var (
	// randomPattern matches ids of scans, tickets and keys, and keys. logIDPattern matches the parts of request ids and hints that differ
	// between runs after a scan, because the scan log reads random numbers concurrently.
	randomPattern = regexp.MustCompile(`\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b|\bqr[a-z]_[0-9A-Za-z_-]{32,}`)
	logIDPattern  = regexp.MustCompile(`\b([0-9a-f]{8}-)[0-9a-f]{8}-[0-9a-f]{8}|( hint: \[)[0-9A-Za-z]+`)
	// Hashes and revisions differ between runs, because they cover sealed secrets.
	hashPattern     = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	revisionPattern = regexp.MustCompile(`("revision":"|^")[0-9A-Za-z_.-]{22,}"`)
)

// normalize replaces the parts of a response that differ between runs by placeholders.
func (p *player) normalize(answer string) string {
	placeholder := func(kind string) func(string) string {
		return func(text string) string {
			if p.placeholders[text] == "" {
				p.counts[kind]++
				p.placeholders[text] = fmt.Sprintf("<%s %d>", kind, p.counts[kind])
			}
			return p.placeholders[text]
		}
	}
	answer = hashPattern.ReplaceAllStringFunc(strings.ReplaceAll(answer, p.s.URL, "<URL>"), placeholder("hash"))
	answer = revisionPattern.ReplaceAllStringFunc(answer, func(text string) string {
		end := strings.LastIndexByte(text[:len(text)-1], '"') + 1
		return text[:end] + placeholder("revision")(text[end:len(text)-1]) + `"`
	})
	if !p.hasScanned {
		return answer
	}
	return logIDPattern.ReplaceAllString(randomPattern.ReplaceAllStringFunc(answer, placeholder("id")), "$1$2…")
}

// runLine runs a command that makes no request and returns the line to write.
func (p *player) runLine(line string) string {
	word, rest, _ := strings.Cut(line, " ")
	p.hasScanned = p.hasScanned || strings.Contains(line, " /scan/v1/resolve ")
	switch extra := p.o.Lines[word]; {
	case extra != nil:
		return strings.TrimRight(word+" "+extra(p.t, p.s), " ")
	case word == "seed" || line == "guarded" || line == "listener":
	case line == "operator":
		p.isOperator = true
	case word == "show":
		p.shownHeaders = strings.Fields(rest)
	case line == "reset":
		p.s.Reset(p.t)
	case word == "clock":
		p.s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, rest))
	case word == "log":
		assert.Contains(p.t, p.s.Log(), rest, "the log")
	case strings.HasPrefix(line, "no log "):
		assert.True(p.t, !strings.Contains(p.s.Log(), line[7:]), "the log contains %q", line[7:])
	default:
		p.last = p.s.RunStoryLine(line, p.last, p.vars, nil)
	}
	return line
}

// send sends a request with the token that its as=NAME selects.
func (p *player) send(request, body string, header []string) {
	hasHeader := func(name string) bool {
		return slices.ContainsFunc(header, func(line string) bool { return strings.HasPrefix(line, name+":") })
	}
	request, name, hasName := strings.Cut(request, " as=")
	method, path, _ := strings.Cut(request, " ")
	admin := strings.HasPrefix(path, "/admin/")
	wire := !admin && !strings.HasPrefix(path, "/scan/")
	p.hasScanned = p.hasScanned || path == "/scan/v1/resolve"
	p.paths = append(p.paths, "/"+strings.TrimLeft(strings.SplitN(path, "?", 2)[0], "/"))
	switch {
	case hasName && !wire:
		require.True(p.t, p.vars[name] != "", "%s: there is no variable %s", request, name)
		header = append(header, "Authorization: Bearer "+p.vars[name])
	case hasName:
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + "access_token=" + p.s.Token(name)
	case p.isOperator && admin && !hasHeader("Authorization"):
		header = append(header, "Authorization: Bearer "+AdminToken)
	}
	if p.isOperator && admin && body != "" && !hasHeader("Content-Type") {
		header = append(header, "Content-Type: application/json")
	}
	r := p.s.Request(method, ExpandRepeats(path), ExpandRepeats(body), header...)
	if !hasHeader("User-Agent") {
		r.Header.Set("User-Agent", "")
	}
	p.last = p.s.Send(r)
	p.hasScanned = p.hasScanned || p.last.Status == http.StatusTemporaryRedirect // a browser that follows a link counts as a scan
	assert.True(p.t, !p.o.Wire || !wire || p.last.Status == http.StatusOK, "%s = %d, want 200", request, p.last.Status)
	if strings.HasPrefix(p.last.Header.Get("Content-Type"), "image/") {
		p.last.Body = "{a picture}"
	}
}
