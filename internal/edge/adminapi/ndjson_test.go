package adminapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func bring(s *servertest.Server, path, text string) servertest.Answer {
	return s.Send(s.Request("POST", "/admin/v1/import/"+path, text, "Content-Type: application/x-ndjson"))
}

type brought struct {
	Lines, Added, Changed, Unchanged int
	Detail                           string
	Errors                           []struct{ Location, Message string }
}

func ruleOf(owner, prefix string) string {
	return fmt.Sprintf(`{"owner":%q,"prefix":%q,"path":"p","published":true}`, owner, prefix)
}

func rulesNow(s *servertest.Server) string { return s.Admin("GET", "/export/rules", "").Body }

// The number of a wrong line is named, and nothing is loaded.
func TestRuleImport_InvalidLinesLoadNothing(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Admin("PUT", "/domains/denied.example", `{"status":"denied"}`)
	if a := bring(s, "rules", `{"owner":"shop","prefix":"https://held.example/","path":"p","occupy":true}`); a.Status != 200 {
		t.Fatal(a.Body)
	}
	before := rulesNow(s)
	first, last := ruleOf("shop", "https://first.example/"), ruleOf("shop", "https://last.example/")
	for name, c := range map[string]struct{ line, want string }{
		"no JSON":       {`shop,https://x.example/`, "want a JSON object"},
		"cut":           {`{"owner":"shop","prefix":"https://x.exa`, "ends in the middle"},
		"two objects":   {ruleOf("shop", "https://x.example/") + ruleOf("shop", "https://y.example/"), "more than one"},
		"a list":        {"[" + ruleOf("shop", "https://x.example/") + "]", "want a JSON object"},
		"unknown field": {`{"owner":"shop","prefix":"https://x.example/","page":"p"}`, `unknown field "page"`},
		"another type": {`{"owner":"shop","prefix":"https://x.example/","path":"p","published":"yes"}`,
			"published cannot be a JSON string"},
		"1 MiB":                  {ruleOf("shop", "https://x.example/"+strings.Repeat("x", 1<<20)), "longer than 16 KiB"},
		"invalid UTF-8":          {"{\"owner\":\"shop\",\"prefix\":\"https://x.example/\",\"path\":\"\xff\"}", "not UTF-8"},
		"a control character":    {`{"owner":"shop","prefix":"https://x.example/","path":"a\u0000"}`, "path"},
		"no owner":               {`{"prefix":"https://x.example/","path":"p"}`, "owner is missing"},
		"no prefix":              {`{"owner":"shop","path":"p"}`, "prefix is missing"},
		"no page":                {`{"owner":"shop","prefix":"https://x.example/"}`, "path: want a page of 1 to"},
		"unknown owner":          {ruleOf("nobody", "https://x.example/"), `there is no account "nobody"`},
		"no link":                {ruleOf("shop", "x.example/"), "want http:// or https://"},
		"a wildcard":             {ruleOf("shop", "https://x.example/*"), "no *"},
		"of a service account":   {ruleOf("shop", "http://weixin.qq.com/q/x"), "only a service account"},
		"a version that is none": {`{"owner":"shop","prefix":"https://x.example/","path":"p","open_version":4}`, "open_version is 4"},
		"a test link elsewhere": {`{"owner":"shop","prefix":"https://x.example/","path":"p","test_links":["https://y.example/"]}`,
			"does not match"},
		"another Mini Program": {`{"owner":"shop","prefix":"https://x.example/","path":"p","appid":"rival"}`,
			"only a service account"},
		"denied":                      {ruleOf("shop", "https://denied.example/"), "the operator denies"},
		"another's":                   {ruleOf("rival", "https://held.example/"), "belongs to shop"},
		"occupied by another":         {ruleOf("rival", "https://held.example/a/b"), "shop occupies"},
		"the same as before":          {first, "also"},
		"the same in other letters":   {ruleOf("rival", "HTTPS://First.Example"), "the same prefix is on line 1"},
		"a service account, no appid": {ruleOf("svc", "http://weixin.qq.com/q/x"), "names the Mini Program"},
	} {
		if name == "the same as before" {
			c.want = "the same prefix is on line 1"
		}
		// The line is the third: empty ones count, and ends of any system.
		text := "\ufeff" + first + "\r\n\r\n" + c.line + "\r\n" + last
		var got brought
		a := bring(s, "rules", text)
		a.JSON(t, &got)
		assert.True(t, a.Status == 422 && len(got.Errors) == 1 && got.Errors[0].Location == "line 3" &&
			strings.Contains(got.Errors[0].Message, c.want), "%s: %d %+v, want %q", name, a.Status, got, c.want)
		if dry := bring(s, "rules?dry_run=true", text); dry.Status != a.Status || dry.Body != a.Body {
			t.Errorf("%s: dry: %d %s, not %s", name, dry.Status, dry.Body, a.Body)
		}
		require.Equal(t, rulesNow(s), before, "%s", name)
	}
}

// Of many wrong lines the first twenty are named, in their order, whatever is
// wrong with them.
func TestRuleImport_NamesFirstTwentyErrors(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	var text strings.Builder
	for i := range 2000 {
		switch owner := "shop"; {
		case i%3 == 1:
			fmt.Fprintln(&text, ruleOf("nobody", fmt.Sprintf("https://h%d.example/", i)))
		case i%3 == 2:
			fmt.Fprintln(&text, "{")
		default:
			fmt.Fprintln(&text, ruleOf(owner, fmt.Sprintf("https://h%d.example/", i)))
		}
	}
	var got brought
	bring(s, "rules", text.String()).JSON(t, &got)
	require.Equal(t, len(got.Errors), 20, "lines are named")
	for i, e := range got.Errors {
		if want := fmt.Sprintf("line %d", i/2*3+i%2+2); e.Location != want {
			t.Errorf("named %d: %+v, want %s", i, e, want)
		}
	}
}

// An import that is acknowledged is what scans find and what the log says, in
// the state of the file: also a rule below one that another occupies.
func TestRuleImport_VisibleToScans(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	text := "\ufeff\n" + strings.Join([]string{
		`{"owner":"shop","prefix":"https://big.example/","path":"above","published":true,"occupy":true}`,
		`{"owner":"rival","prefix":"https://big.example/below/","path":"below","published":true,"open_version":2,"test_links":["https://big.example/below/1"]}`,
	}, "\r\n")
	var got brought
	if bring(s, "rules?dry_run=true", text).JSON(t, &got); got.Added != 2 || strings.Contains(rulesNow(s), "big.example") {
		t.Fatalf("dry: %+v", got)
	}
	if bring(s, "rules", text).JSON(t, &got); got.Lines != 2 || got.Added != 2 {
		t.Fatalf("%+v", got)
	}
	for link, want := range map[string]string{"https://big.example/x": `"appid":"shop"`, "https://big.example/below/x": `"appid":"rival"`} {
		if a := s.Do("POST", "/scan/v1/resolve", `{"text":"`+link+`"}`); !strings.Contains(a.Body, want) {
			t.Errorf("%s: %s", link, a.Body)
		}
	}
	if a := s.Admin("GET", "/rules/history?prefix=https://big.example/", ""); !strings.Contains(a.Body, `"actor":"admin","action":"add"`) {
		t.Errorf("history: %s", a.Body)
	}
	// An export goes in again and changes nothing, not even the log.
	head := s.Admin("GET", "/changes?limit=1", "").Body
	if bring(s, "rules", rulesNow(s)).JSON(t, &got); got.Added+got.Changed != 0 || got.Unchanged == 0 {
		t.Errorf("again: %+v", got)
	}
	assert.Equal(t, s.Admin("GET", "/changes?limit=1", "").Body, head, "the same again is noted")
	// Many at once are read another way.
	var many strings.Builder
	for i := range 1500 {
		fmt.Fprintln(&many, ruleOf("shop", fmt.Sprintf("https://many.example/%d/", i)))
	}
	for range 2 {
		if a := bring(s, "rules", many.String()); a.Status != 200 {
			t.Fatal(a.Body)
		}
		if a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://many.example/1499/x"}`); !strings.Contains(a.Body, `"appid":"shop"`) {
			t.Errorf("after many: %s", a.Body)
		}
	}
	if bring(s, "rules", strings.ReplaceAll(many.String(), `"published":true`, `"published":false`)).JSON(t, &got); got.Changed != 1500 {
		t.Errorf("unpublished: %+v", got)
	}
	if a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://many.example/1499/x"}`); strings.Contains(a.Body, `"appid":"shop"`) {
		t.Errorf("after they were unpublished: %s", a.Body)
	}
	var verified struct {
		Fault any `json:"first_error"`
	}
	if s.Admin("POST", "/audit/verify", "").JSON(t, &verified); verified.Fault != nil {
		t.Errorf("the log: %v", verified.Fault)
	}
}

// A body that breaks off is no file, even where it breaks between two lines.
func TestRuleImport_TruncatedBody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: shop, Data: dir})
	before := rulesNow(s)
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	line := ruleOf("shop", "https://half.example/") + "\n"
	fmt.Fprintf(conn,
		"POST /admin/v1/import/rules HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s", u.Host,
		2*len(line), line)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	status, _ := bufio.NewReader(conn).ReadString('\n')
	_, _ = io.Copy(io.Discard, conn)
	assert.True(t, strings.Contains(status, " 400 "), "answered %q", status)
	if now := rulesNow(s); now != before {
		t.Errorf("loaded by halves:\n%s", now)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".import") {
			t.Errorf("%s stayed behind", e.Name())
		}
	}
}

// Accounts go and come without their secrets; those that are there keep them.
func TestAccountNDJSON_RoundTripWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	out := s.Admin("GET", "/export/accounts", "").Body
	assert.True(t, !strings.Contains(out, "the-secret-of-"), "a secret: %s", out)
	var got brought
	if bring(s, "accounts", out).JSON(t, &got); got.Lines == 0 || got.Unchanged != got.Lines {
		t.Errorf("again: %+v", got)
	}
	changed := strings.ReplaceAll(out, `"jump_open":true`, `"jump_open":false`)
	if bring(s, "accounts?dry_run=true", changed).JSON(t, &got); got.Changed != got.Lines ||
		s.Admin("GET", "/export/accounts", "").Body != out {
		t.Errorf("dry: %+v", got)
	}
	if bring(s, "accounts", changed).JSON(t, &got); got.Changed != got.Lines || s.Admin("GET", "/export/accounts", "").Body != changed {
		t.Errorf("changed: %+v", got)
	}
	s.NewToken("shop") // by the secret that it had
	for _, c := range []struct{ line, want string }{
		{`{"appid":"shop","kind":"service_account"}`, "the kind of an account cannot be changed"},
		{`{"appid":"new","kind":"mini_program","linked":["shop"]}`, "only a service account is linked"},
		{`{"appid":"new","kind":"service_account","linked":["nobody"]}`, "there is no account"},
		{`{"appid":"new","kind":"service_account","linked":["brought"]}`, ""},
		{`{"kind":"mini_program"}`, "appid"},
		{`{"appid":"brought","kind":"mini_program"}`, "also on line 1"},
		{`{"appid":"new","kind":"mini_program","members":{"u":"king"}}`, "the role"},
	} {
		var got brought
		a := bring(s, "accounts", `{"appid":"brought","kind":"mini_program"}`+"\n"+c.line)
		a.JSON(t, &got)
		if c.want == "" {
			assert.True(t, a.Status == 200 && got.Added == 2, "%s: %s", c.line, a.Body)
			continue
		}
		assert.True(t, a.Status == 422 && len(got.Errors) == 1 && got.Errors[0].Location == "line 2" &&
			strings.Contains(got.Errors[0].Message, c.want), "%s: %d %s", c.line, a.Status, a.Body)
	}
	s.Send(s.Request("POST", "/admin/v1/import/rules", "{}", "Content-Type: text/plain")).WantStatus(t, 415, "another type")
}

// Issue 28, 6: what platforms set of an account stood in no seed and in no export, so that it was lost on the way to another
// server.
func TestAccountOptions_SeedAndNDJSON(t *testing.T) {
	t.Parallel()
	one := servertest.Start(t, servertest.Options{Seed: `
accounts:
  - {appid: heard, kind: mini_program, secret: the-secret-of-heard, options: {voice_recognize: "1", location_report: "2"}}
  - {appid: plain, kind: mini_program, secret: the-secret-of-plain}
`})
	const said = `"options":{"location_report":"2","voice_recognize":"1"}`
	lines := one.Admin("GET", "/export/accounts", "").Body
	require.True(t, strings.Count(lines, `"options"`) == 1 && strings.Contains(lines, said), "the lines: %s", lines)
	two := servertest.Start(t, servertest.Options{Seed: "accounts: []\n"})
	bring(two, "accounts", lines)
	for at, s := range map[string]*servertest.Server{"seeded": one, "brought": two} {
		if got := s.Admin("GET", "/accounts/heard", "").Body; !strings.Contains(got, said) {
			t.Errorf("%s: %s", at, got)
		}
	}
	// An option that a line does not name stays; a value that no option can have is named, and nothing is loaded.
	bring(two, "accounts", `{"appid":"heard","kind":"mini_program","name":"Heard"}`+"\n")
	if got := two.Admin("GET", "/accounts/heard", "").Body; !strings.Contains(got, said) || !strings.Contains(got, `"name":"Heard"`) {
		t.Errorf("after a line without options: %s", got)
	}
	for option, want := range map[string]string{
		`"voice":"1"`: `options has \"voice\"`, `"voice_recognize":"7"`: `voice_recognize is \"7\"`,
	} {
		a := bring(two, "accounts", `{"appid":"heard","kind":"mini_program","options":{`+option+`}}`+"\n")
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, want), "%s: %d %s", option, a.Status, a.Body)
	}
}
