package servertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Verbs are the words of a story that a package adds: each is given the rest of its line and returns what it was answered.
type Verbs map[string]func(rest string) Answer

// ReadStories reads a file of stories: the lines below each "## NAME".
func ReadStories(t testing.TB, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	stories := map[string]string{}
	for _, block := range strings.Split(string(text), "\n## ")[1:] {
		name, lines, _ := strings.Cut(block, "\n")
		_, duplicate := stories[name]
		assert.True(t, !duplicate, "%s has %q twice", file, name)
		stories[name] = lines
	}
	return stories
}

// Tell makes the calls of a story, one a line, and returns the last answer. A call of the wire that is refused fails the test, unless
// it is the last of the story or has "try" in front. Empty lines and those that begin with "# " say nothing.
//
//	[try] [N times|N seconds] METHOD PATH [as=APPID] [typed] [BODY]
//	                          seconds: once in each; %d: which of N it is; typed: with a Content-Type;
//	                          go"…": a body in Go's quotes
//	admin METHOD PATH [BODY]
//	fault PATH NUMBER         the next call of an interface is answered so
//	allow ROW                 unless the server is strict or the row is set already
//	used ACCOUNT PATH N       N calls of today
//	advance DURATION          the emulator's clock
//	step DURATION             the server's
//	take NAME PATTERN         <NAME> stands for what the pattern's group finds in the last answer, or else in its header
//	hide NAME                 and the log may not have it; or the text NAME itself
//	says TEXT                 the last answer or its header has the text
//	NAME = token|newtoken|component|ticket|preauth|authorize|access ARGUMENTS   of this package; access takes <refresh> as well
//
// <?NAME> is <NAME> as a query has it. <<x*9>> stands for nine times x.
func (s *Server) Tell(text string, verbs Verbs) Answer {
	s.t.Helper()
	return s.tellAll(text, map[string]string{}, verbs)
}

// Plant tells the story of a file and returns what it took, by name. The replacements are made in its text first: what, by what.
func (s *Server) Plant(file string, replacements ...string) map[string]string {
	s.t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(s.t, err)
	taken := map[string]string{}
	s.tellAll(strings.NewReplacer(replacements...).Replace(string(text)), taken, nil)
	return taken
}

func (s *Server) tellAll(text string, taken map[string]string, verbs Verbs) (last Answer) {
	s.t.Helper()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		if i == len(lines)-1 && !strings.HasPrefix(line, "try ") {
			line = "try " + line
		}
		last = s.TellLine(line, last, taken, verbs)
	}
	return last
}

// TellLine does what one line of a story says, after a call with the last answer, and returns the answer.
func (s *Server) TellLine(line string, last Answer, taken map[string]string, verbs Verbs) Answer {
	s.t.Helper()
	line, try := strings.CutPrefix(Fill(line, taken), "try ")
	times, separateWait := 1, time.Duration(0)
	if found := repetition.FindStringSubmatch(line); found != nil {
		times, _ = strconv.Atoi(found[1])
		line = line[len(found[0]):]
		if found[2] == "seconds" {
			separateWait = time.Second
		}
	}
	for n := range times {
		s.Clock.Step(separateWait)
		last = s.tell(strings.ReplaceAll(line, "%d", strconv.Itoa(n)), last, taken, verbs)
	}
	call := methods[strings.SplitN(line, " ", 2)[0]]
	refused := strings.HasPrefix(last.Body, `{"errcode":`) && !strings.HasPrefix(last.Body, `{"errcode":0,`)
	require.True(s.t, !call || !refused || try, "%s: refused by %s", line, last.Body)
	return last
}

// Fill puts what was taken into a text: <NAME>, or <?NAME> as a query has it.
func Fill(text string, taken map[string]string) string {
	for name, value := range taken {
		text = strings.NewReplacer("<"+name+">", value, "<?"+name+">", url.QueryEscape(value)).Replace(text)
	}
	return text
}

var (
	methods    = map[string]bool{"GET": true, "POST": true, "PUT": true, "DELETE": true}
	repetition = regexp.MustCompile(`^(\d+) (times|seconds) `)
	repeated   = regexp.MustCompile(`<<(.*?)\*(\d+)>>`)
)

// Unfold returns a text of a story as it is sent.
func Unfold(text string) string {
	text = repeated.ReplaceAllStringFunc(text, func(found string) string {
		part := repeated.FindStringSubmatch(found)
		n, _ := strconv.Atoi(part[2])
		return strings.Repeat(part[1], n)
	})
	if quoted, found := strings.CutPrefix(text, "go"); found && strings.HasPrefix(quoted, `"`) {
		text, _ = strconv.Unquote(quoted)
	}
	return text
}

// tell does what a line says and returns the answer, or the last one where the line is no call.
func (s *Server) tell(line string, last Answer, taken map[string]string, verbs Verbs) Answer {
	s.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	if verbs[word] != nil {
		return verbs[word](Unfold(rest))
	}
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "GET", "POST", "PUT", "DELETE":
		return s.call(word, first, second)
	case "admin":
		path, body, _ := strings.Cut(second, " ")
		return s.Admin(first, path, body)
	case "fault":
		s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%s,"remaining":1}`, first, second))
	case "allow":
		s.allow(rest)
	case "used":
		path, n, _ := strings.Cut(second, " ")
		s.Exec(fmt.Sprintf(`INSERT INTO counters (appid, counter, day, value) VALUES ('%s', '%s', %d, %s)`, first, path,
			Began.Add(8*time.Hour).Unix()/86400, n))
	case "advance", "step":
		d, err := time.ParseDuration(rest)
		require.NoError(s.t, err)
		if word == "step" {
			s.Clock.Step(d)
		} else {
			s.Advance(d)
		}
	case "take":
		pattern := regexp.MustCompile(second)
		found := pattern.FindStringSubmatch(last.Body)
		if found == nil {
			found = pattern.FindStringSubmatch(headerText(last))
		}
		require.True(s.t, found != nil, "%s: nothing in %.2000s", line, last.Body)
		taken[first] = found[1]
	case "hide":
		s.Hide(cmp.Or(taken[rest], rest))
	case "says":
		assert.True(s.t, strings.Contains(last.Body, rest) || strings.Contains(headerText(last), rest), "%s: %.2000s", line, last.Body)
	default:
		taken[word] = s.issue(strings.Fields(second), taken)
	}
	return last
}

// headerText returns the header of an answer as lines.
func headerText(a Answer) string {
	var b strings.Builder
	_ = a.Header.Write(&b)
	return b.String()
}

// call makes a call of a story: what follows the path is "as=APPID", "typed" and the body, each of which may be left out.
func (s *Server) call(method, path, body string) Answer {
	s.t.Helper()
	if account, found := strings.CutPrefix(body, "as="); found {
		account, body, _ = strings.Cut(account, " ")
		mark := "?"
		if strings.Contains(path, "?") {
			mark = "&"
		}
		path += mark + "access_token=" + s.Token(account)
	}
	var header []string
	if rest, found := strings.CutPrefix(body+" ", "typed "); found {
		body, header = strings.TrimSuffix(rest, " "), []string{"Content-Type: application/json"}
	}
	return s.Do(method, Unfold(path), Unfold(body), header...)
}

// issue returns what a word of a story makes, and its arguments.
func (s *Server) issue(words []string, taken map[string]string) (made string) {
	s.t.Helper()
	require.True(s.t, len(words) >= 2, "what is %q?", words)
	names := append(words[1:], "", "", "")
	switch words[0] {
	case "token":
		return s.Token(names[0])
	case "newtoken":
		return s.NewToken(names[0])
	case "component":
		return s.ComponentToken(names[0])
	case "ticket":
		return s.Ticket(names[0])
	case "preauth":
		return s.PreAuthCode(names[0], names[1])
	case "authorize":
		return s.Authorize(names[0], names[1], names[2], names[3])
	case "access":
		made, taken["refresh"] = s.AuthorizerToken(names[0], names[1], names[2])
		return made
	}
	s.t.Fatalf("what is %q?", words)
	return ""
}

// allow lets the operator allow a behaviour, unless it is set already or the server is strict.
func (s *Server) allow(id string) {
	s.t.Helper()
	settings := Decode[struct {
		Strict     bool              `json:"strict"`
		Behaviours map[string]string `json:"behaviours"`
	}](s.t, s.Admin("GET", "/settings", ""))
	if settings.Behaviours[id] != "" || settings.Strict {
		return
	}
	settings.Behaviours[id] = "allow"
	body, err := json.Marshal(settings)
	require.NoError(s.t, err)
	s.Admin("PUT", "/settings", string(body))
}
