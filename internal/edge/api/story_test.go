package api_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// readStories reads a file of testdata/stories: the calls below each "## NAME", preceded by those of a preamble.
func readStories(t testing.TB, name, preamble string) map[string]how {
	t.Helper()
	text, err := os.ReadFile("testdata/stories/" + name + ".txt")
	require.NoError(t, err)
	list := map[string]how{}
	for _, block := range strings.Split(string(text), "\n## ")[1:] {
		head, calls, _ := strings.Cut(block, "\n")
		if list[head] != nil {
			t.Errorf("%s.txt has %q twice", name, head)
		}
		list[head] = story(preamble + calls)
	}
	return list
}

// story makes the calls of a text, one a line, and returns the last answer. It panics where one that came earlier was refused and had
// no "try" in front:
//
//	[try] [N times] GET|POST PATH [as=APPID] [typed] [BODY]   typed: with a Content-Type; go"…": a body in Go's quotes;
//	                          %d: which of N it is, each a second after the other
//	admin METHOD PATH [BODY]
//	fault PATH NUMBER         the next call of an interface is answered so
//	allow ROW                 unless the server is strict or the row is set already
//	used ACCOUNT PATH N       N calls of today
//	advance DURATION
//	take NAME PATTERN         <NAME> stands for what the pattern's group finds in the last answer
//	NAME = token|newtoken|component|ticket|preauth|authorize|access ARGUMENTS   of servertest; access takes <refresh> as well
//
// <<x*9>> stands for nine times x.
func story(text string) how {
	return func(s *servertest.Server) (last servertest.Answer) {
		taken := map[string]string{}
		lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
		for i, line := range lines {
			for name, value := range taken {
				line = strings.ReplaceAll(line, "<"+name+">", value)
			}
			line, try := strings.CutPrefix(line, "try ")
			times := 1
			if count, rest, found := strings.Cut(line, " times "); found {
				if n, err := strconv.Atoi(count); err == nil {
					times, line = n, rest
				}
			}
			for n := range times {
				if strings.Contains(line, "%d") {
					s.Clock.Step(time.Second)
				}
				last = step(s, strings.ReplaceAll(line, "%d", strconv.Itoa(n)), last, taken)
			}
			call := strings.HasPrefix(line, "GET ") || strings.HasPrefix(line, "POST ")
			refused := strings.HasPrefix(last.Body, `{"errcode":`) && !strings.HasPrefix(last.Body, `{"errcode":0,`)
			if call && refused && !try && i < len(lines)-1 {
				panic("a preparation failed: " + line + ": " + last.Body)
			}
		}
		return last
	}
}

var repeated = regexp.MustCompile(`<<(.*?)\*(\d+)>>`)

// literal returns a text of a story as it is sent.
func literal(text string) string {
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

// step does what a line of a story says and returns the answer, or the last one where the line is no call.
func step(s *servertest.Server, line string, last servertest.Answer, taken map[string]string) servertest.Answer {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "GET", "POST":
		path, body, _ := strings.Cut(rest, " ")
		var header []string
		if account, found := strings.CutPrefix(body, "as="); found {
			account, body, _ = strings.Cut(account, " ")
			mark := "?"
			if strings.Contains(path, "?") {
				mark = "&"
			}
			path += mark + "access_token=" + s.Token(account)
		}
		if json, found := strings.CutPrefix(body+" ", "typed "); found {
			body, header = strings.TrimSuffix(json, " "), []string{"Content-Type: application/json"}
		}
		return s.Do(word, literal(path), literal(body), header...)
	case "admin":
		part := append(strings.SplitN(rest, " ", 3), "")
		s.Admin(part[0], part[1], part[2])
	case "fault":
		path, number, _ := strings.Cut(rest, " ")
		s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%s,"times":1}`, path, number))
	case "allow":
		allow(s, rest)
	case "used":
		part := strings.Fields(rest)
		s.Exec(fmt.Sprintf(`INSERT INTO counters (appid, what, day, used) VALUES ('%s', '%s', %d, %s)`, part[0], part[1],
			servertest.Began.Add(8*time.Hour).Unix()/86400, part[2]))
	case "advance":
		d, err := time.ParseDuration(rest)
		if err != nil {
			panic(err)
		}
		s.Advance(d)
	case "take":
		name, pattern, _ := strings.Cut(rest, " ")
		found := regexp.MustCompile(pattern).FindStringSubmatch(last.Body)
		if found == nil {
			panic("no " + pattern + " in " + last.Body)
		}
		taken[name] = found[1]
	default:
		part := append(strings.Fields(rest), "", "", "", "")
		taken[word] = secret(s, part[1], part[2:], taken)
	}
	return last
}

// secret returns what a word of a story makes.
func secret(s *servertest.Server, word string, of []string, taken map[string]string) (made string) {
	switch word {
	case "token":
		return s.Token(of[0])
	case "newtoken":
		return s.NewToken(of[0])
	case "component":
		return s.ComponentToken(of[0])
	case "ticket":
		return s.Ticket(of[0])
	case "preauth":
		return s.PreAuthCode(of[0], of[1])
	case "authorize":
		return s.Authorize(of[0], of[1], of[2], of[3])
	case "access":
		made, taken["refresh"] = s.AuthorizerToken(of[0], of[1], of[2])
		return made
	}
	panic("what is " + word + "?")
}

// allow lets the operator allow a behaviour, unless it is set already or the server is strict.
func allow(s *servertest.Server, id string) {
	var settings struct {
		Strict     bool              `json:"strict"`
		Behaviours map[string]string `json:"behaviours"`
	}
	if err := json.Unmarshal([]byte(s.Admin("GET", "/settings", "").Body), &settings); err != nil {
		panic(err)
	}
	if settings.Behaviours[id] != "" || settings.Strict {
		return
	}
	settings.Behaviours[id] = "allow"
	body, err := json.Marshal(settings)
	if err != nil {
		panic(err)
	}
	s.Admin("PUT", "/settings", string(body))
}
