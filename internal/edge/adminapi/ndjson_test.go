package adminapi_test

import (
	"bufio"
	_ "embed"
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

//go:embed testdata/seeds/shop.yaml
var shop string

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

// Of many wrong lines the first twenty are named, in their order, whatever is wrong with them.
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
	got := servertest.Decode[brought](t, bring(s, "rules", text.String()))
	require.Equal(t, len(got.Errors), 20, "lines are named")
	for i, e := range got.Errors {
		want := fmt.Sprintf("line %d", i/2*3+i%2+2)
		assert.True(t, e.Location == want, "named %d: %+v, want %s", i, e, want)
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
	got := servertest.Decode[brought](t, bring(s, "rules?dry_run=true", text))
	require.True(t, got.Added == 2 && !strings.Contains(rulesNow(s), "big.example"), "dry: %+v", got)
	bring(s, "rules", text).JSON(t, &got)
	require.True(t, got.Lines == 2 && got.Added == 2, "%+v", got)
	for link, want := range map[string]string{"https://big.example/x": `"appid":"shop"`, "https://big.example/below/x": `"appid":"rival"`} {
		assert.Contains(t, s.Do("POST", "/scan/v1/resolve", `{"text":"`+link+`"}`).Body, want, "%s", link)
	}
	assert.Contains(t, s.Admin("GET", "/rules/history?prefix=https://big.example/", "").Body, `"actor":"admin","action":"add"`, "history")
	// An export goes in again and changes nothing, not even the log.
	head := s.Admin("GET", "/changes?limit=1", "").Body
	bring(s, "rules", rulesNow(s)).JSON(t, &got)
	assert.True(t, got.Added+got.Changed == 0 && got.Unchanged != 0, "again: %+v", got)
	assert.Equal(t, s.Admin("GET", "/changes?limit=1", "").Body, head, "the same again is noted")
	// Many at once are read another way.
	var many strings.Builder
	for i := range 1500 {
		fmt.Fprintln(&many, ruleOf("shop", fmt.Sprintf("https://many.example/%d/", i)))
	}
	for range 2 {
		a := bring(s, "rules", many.String())
		require.True(t, a.Status == 200, "%v", a.Body)
		assert.Contains(t, s.Do("POST", "/scan/v1/resolve", `{"text":"https://many.example/1499/x"}`).Body, `"appid":"shop"`, "after many")
	}
	bring(s, "rules", strings.ReplaceAll(many.String(), `"published":true`, `"published":false`)).JSON(t, &got)
	assert.True(t, got.Changed == 1500, "unpublished: %+v", got)
	a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://many.example/1499/x"}`)
	assert.True(t, !strings.Contains(a.Body, `"appid":"shop"`), "after they were unpublished: %s", a.Body)
	var verified struct {
		Fault any `json:"first_error"`
	}
	s.Admin("POST", "/audit/verify", "").JSON(t, &verified)
	assert.True(t, verified.Fault == nil, "the log: %v", verified.Fault)
}

// Next steps print revisions as words of a command line.
func TestRevisionOf_IsNoFlag(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	var text strings.Builder
	for i := range 500 {
		fmt.Fprintln(&text, ruleOf("shop", fmt.Sprintf("https://many.example/%d/", i)))
	}
	bring(s, "rules", text.String())
	list := s.Admin("GET", "/rules?limit=1000", "").Body
	assert.True(t, strings.Count(list, `"revision":"`) == 500 && !strings.Contains(list, `"revision":"-`), "got %s, want no -", list)
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
	assert.Equal(t, rulesNow(s), before, "loaded by halves")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		assert.True(t, !strings.HasPrefix(e.Name(), ".import"), "%s stayed behind", e.Name())
	}
}
