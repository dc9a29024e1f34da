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

// Commands are additional commands of stories, by name. A command gets the rest of its line and returns the response.
type Commands map[string]func(rest string) Answer

// ReadStories reads a file of stories and returns the lines below each "## NAME", by name.
func ReadStories(t testing.TB, file string) map[string]string {
	t.Helper()
	text := require.Value(os.ReadFile(file))(t)
	stories := map[string]string{}
	for _, block := range strings.Split(string(text), "\n## ")[1:] {
		name, lines, _ := strings.Cut(block, "\n")
		_, duplicate := stories[name]
		assert.True(t, !duplicate, "%s has %q twice", file, name)
		stories[name] = lines
	}
	return stories
}

// RunStory runs the commands of a story, one per line, and returns the last response. An error of the wire API fails the test, unless the
// command is the last of the story or begins with "try". Empty lines and lines that begin with "# " are comments.
//
//	[try] [N times|N seconds] METHOD PATH [as=APPID] [typed] [BODY]
//	                          N seconds: one call per second; %d: number of the repetition; typed: with a Content-Type;
//	                          go"…": a body as a Go string literal
//	admin METHOD PATH [BODY]
//	fault PATH NUMBER         the next call of an endpoint returns this errcode
//	allow ROW                 allows a behaviour, unless the server is strict or the behaviour is set already
//	used ACCOUNT PATH N       sets the counter of today's calls to N
//	advance DURATION          moves the emulator's clock
//	step DURATION             moves the server's clock
//	take NAME PATTERN         sets <NAME> to the pattern's group in the last response body, otherwise in its header
//	hide NAME                 fails the test if the log contains <NAME>, or the text NAME if there is no such variable
//	says TEXT                 fails the test unless the last response body or header contains the text
//	NAME = token|newtoken|component|ticket|preauth|authorize|access ARGUMENTS   sets <NAME> to a token; access sets <refresh> as well
//
// <?NAME> is <NAME>, escaped for a query. <<x*9>> is x, repeated nine times.
func (s *Server) RunStory(text string, commands Commands) Answer {
	s.t.Helper()
	return s.runStory(text, map[string]string{}, commands)
}

// RunStoryFile runs the story of a file and returns its variables. The replacements, pairs of old and new, are made in its text first.
func (s *Server) RunStoryFile(file string, replacements ...string) map[string]string {
	s.t.Helper()
	text := require.Value(os.ReadFile(file))(s.t)
	vars := map[string]string{}
	s.runStory(strings.NewReplacer(replacements...).Replace(string(text)), vars, nil)
	return vars
}

func (s *Server) runStory(text string, vars map[string]string, commands Commands) (last Answer) {
	s.t.Helper()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		if i == len(lines)-1 && !strings.HasPrefix(line, "try ") {
			line = "try " + line
		}
		last = s.RunStoryLine(line, last, vars, commands)
	}
	return last
}

// RunStoryLine runs one line of a story. last is the response to the line before it; the result is the new last response.
func (s *Server) RunStoryLine(line string, last Answer, vars map[string]string, commands Commands) Answer {
	s.t.Helper()
	line, try := strings.CutPrefix(ExpandVariables(line, vars), "try ")
	times, interval := 1, time.Duration(0)
	if match := repeatPattern.FindStringSubmatch(line); match != nil {
		times, _ = strconv.Atoi(match[1])
		line = line[len(match[0]):]
		if match[2] == "seconds" {
			interval = time.Second
		}
	}
	for n := range times {
		s.Clock.Step(interval)
		last = s.runCommand(strings.ReplaceAll(line, "%d", strconv.Itoa(n)), last, vars, commands)
	}
	isCall := isMethod[strings.SplitN(line, " ", 2)[0]]
	isError := strings.HasPrefix(last.Body, `{"errcode":`) && !strings.HasPrefix(last.Body, `{"errcode":0,`)
	require.True(s.t, !isCall || !isError || try, "%s = %s, want errcode 0", line, last.Body)
	return last
}

// ExpandVariables replaces <NAME> by the variable's value, and <?NAME> by the value escaped for a query.
func ExpandVariables(text string, vars map[string]string) string {
	for name, value := range vars {
		text = strings.NewReplacer("<"+name+">", value, "<?"+name+">", url.QueryEscape(value)).Replace(text)
	}
	return text
}

var (
	isMethod      = map[string]bool{"GET": true, "POST": true, "PUT": true, "DELETE": true}
	repeatPattern = regexp.MustCompile(`^(\d+) (times|seconds) `)
	expandPattern = regexp.MustCompile(`<<(.*?)\*(\d+)>>`)
)

// ExpandRepeats expands <<x*9>> and unquotes a text that begins with go".
func ExpandRepeats(text string) string {
	text = expandPattern.ReplaceAllStringFunc(text, func(match string) string {
		part := expandPattern.FindStringSubmatch(match)
		n, _ := strconv.Atoi(part[2])
		return strings.Repeat(part[1], n)
	})
	if quoted, match := strings.CutPrefix(text, "go"); match && strings.HasPrefix(quoted, `"`) {
		text, _ = strconv.Unquote(quoted)
	}
	return text
}

// runCommand runs a command and returns its response, or last if the command makes no call.
func (s *Server) runCommand(line string, last Answer, vars map[string]string, commands Commands) Answer {
	s.t.Helper()
	command, rest, _ := strings.Cut(line, " ")
	if commands[command] != nil {
		return commands[command](ExpandRepeats(rest))
	}
	first, second, _ := strings.Cut(rest, " ")
	switch command {
	case "GET", "POST", "PUT", "DELETE":
		return s.call(command, first, second)
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
		d := require.Value(time.ParseDuration(rest))(s.t)
		if command == "step" {
			s.Clock.Step(d)
		} else {
			s.Advance(d)
		}
	case "take":
		pattern := regexp.MustCompile(second)
		match := pattern.FindStringSubmatch(last.Body)
		if match == nil {
			match = pattern.FindStringSubmatch(headerText(last))
		}
		require.True(s.t, match != nil, "%s: no match in %.2000s", line, last.Body)
		vars[first] = match[1]
	case "hide":
		s.RegisterSecret(cmp.Or(vars[rest], rest))
	case "says":
		assert.True(s.t, strings.Contains(last.Body, rest) || strings.Contains(headerText(last), rest), "%s: %.2000s", line, last.Body)
	default:
		vars[command] = s.issueToken(strings.Fields(second), vars)
	}
	return last
}

// headerText returns the header of a response as lines.
func headerText(a Answer) string {
	var b strings.Builder
	_ = a.Header.Write(&b)
	return b.String()
}

// call sends a request of a story. body is the rest of the line after the path: "as=APPID", "typed" and the body, each optional.
func (s *Server) call(method, path, body string) Answer {
	s.t.Helper()
	if account, ok := strings.CutPrefix(body, "as="); ok {
		account, body, _ = strings.Cut(account, " ")
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + "access_token=" + s.Token(account)
	}
	var header []string
	if rest, ok := strings.CutPrefix(body+" ", "typed "); ok {
		body, header = strings.TrimSuffix(rest, " "), []string{"Content-Type: application/json"}
	}
	return s.Do(method, ExpandRepeats(path), ExpandRepeats(body), header...)
}

// issueToken returns the token of a story's assignment: words is the kind of token and its arguments.
func (s *Server) issueToken(words []string, vars map[string]string) (token string) {
	s.t.Helper()
	require.True(s.t, len(words) >= 2, "unknown command %q", words)
	args := append(words[1:], "", "", "")
	switch words[0] {
	case "token":
		return s.Token(args[0])
	case "newtoken":
		return s.NewToken(args[0])
	case "component":
		return s.ComponentToken(args[0])
	case "ticket":
		return s.Ticket(args[0])
	case "preauth":
		return s.PreAuthCode(args[0], args[1])
	case "authorize":
		return s.Authorize(args[0], args[1], args[2], args[3])
	case "access":
		token, vars["refresh"] = s.AuthorizerToken(args[0], args[1], args[2])
		return token
	}
	s.t.Fatalf("unknown command %q", words)
	return ""
}

// allow sets a behaviour to allow, unless it is set already or the server is strict.
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
	body := require.Value(json.Marshal(settings))(s.t)
	s.Admin("PUT", "/settings", string(body))
}
