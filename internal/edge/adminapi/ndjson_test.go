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

func importNDJSON(s *servertest.Server, path, text string) servertest.Answer {
	return s.Send(s.Request("POST", "/admin/v1/import/"+path, text, "Content-Type: application/x-ndjson"))
}

type importResult struct {
	Lines, Added, Changed, Unchanged int
	Errors                           []struct{ Location string }
}

func ruleLine(owner, prefix string) string {
	return fmt.Sprintf(`{"owner":%q,"prefix":%q,"path":"p","published":true}`, owner, prefix)
}

func exportRules(s *servertest.Server) string { return s.Admin("GET", "/export/rules", "").Body }

// TestRuleImport_NamesFirstTwentyErrors verifies that an import reports the first twenty invalid lines in order, whatever their errors.
func TestRuleImport_NamesFirstTwentyErrors(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	var text strings.Builder
	for i := range 2000 {
		switch i % 3 {
		case 0:
			fmt.Fprintln(&text, ruleLine("shop", fmt.Sprintf("https://h%d.example/", i)))
		case 1:
			fmt.Fprintln(&text, ruleLine("unknown", fmt.Sprintf("https://h%d.example/", i)))
		case 2:
			fmt.Fprintln(&text, "{")
		}
	}
	got := servertest.Decode[importResult](t, importNDJSON(s, "rules", text.String()))
	require.Equal(t, len(got.Errors), 20, "reported errors")
	for i, e := range got.Errors {
		assert.Equal(t, e.Location, fmt.Sprintf("line %d", i/2*3+i%2+2), "location of error %d", i)
	}
}

// TestRuleImport_VisibleToScans verifies that a completed import is visible to scans and in the audit log, also for a rule below an
// occupied prefix, that a dry run and a repeated import change nothing, and that a large import does the same.
func TestRuleImport_VisibleToScans(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	text := "\ufeff\n" + strings.Join([]string{
		`{"owner":"shop","prefix":"https://big.example/","path":"above","published":true,"occupy":true}`,
		`{"owner":"rival","prefix":"https://big.example/below/","path":"below","published":true,"open_version":2,"test_links":["https://big.example/below/1"]}`,
	}, "\r\n")
	got := servertest.Decode[importResult](t, importNDJSON(s, "rules?dry_run=true", text))
	require.True(t, got.Added == 2 && !strings.Contains(exportRules(s), "big.example"), "dry run = %+v, want 2 added and no rule", got)
	importNDJSON(s, "rules", text).JSON(t, &got)
	require.True(t, got.Lines == 2 && got.Added == 2, "import = %+v, want 2 added", got)
	for link, want := range map[string]string{"https://big.example/x": `"appid":"shop"`, "https://big.example/below/x": `"appid":"rival"`} {
		assert.Contains(t, s.Do("POST", "/scan/v1/resolve", `{"text":"`+link+`"}`).Body, want, "scan of %s", link)
	}
	assert.Contains(t, s.Admin("GET", "/rules/history?prefix=https://big.example/", "").Body, `"actor":"admin","action":"add"`, "history")
	// Importing an export changes nothing and adds nothing to the audit log.
	head := s.Admin("GET", "/changes?limit=1", "").Body
	importNDJSON(s, "rules", exportRules(s)).JSON(t, &got)
	assert.True(t, got.Added+got.Changed == 0 && got.Unchanged != 0, "second import = %+v, want only unchanged rules", got)
	assert.Equal(t, s.Admin("GET", "/changes?limit=1", "").Body, head, "last change after the second import")
	// A large import is inserted in bulk.
	var many strings.Builder
	for i := range 1500 {
		fmt.Fprintln(&many, ruleLine("shop", fmt.Sprintf("https://many.example/%d/", i)))
	}
	for range 2 {
		importNDJSON(s, "rules", many.String()).WantStatus(t, 200, "a large import")
		assert.Contains(t, s.Do("POST", "/scan/v1/resolve", `{"text":"https://many.example/1499/x"}`).Body, `"appid":"shop"`,
			"scan after a large import")
	}
	importNDJSON(s, "rules", strings.ReplaceAll(many.String(), `"published":true`, `"published":false`)).JSON(t, &got)
	assert.True(t, got.Changed == 1500, "import that unpublishes = %+v, want 1500 changed", got)
	a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://many.example/1499/x"}`)
	assert.True(t, !strings.Contains(a.Body, `"appid":"shop"`), "scan after the rules were unpublished = %s, want no page of shop", a.Body)
	verified := servertest.Decode[map[string]any](t, s.Admin("POST", "/audit/verify", ""))
	assert.True(t, verified["first_error"] == nil, "first error of the audit log = %v, want none", verified["first_error"])
}

// TestRevisionOf_IsNoFlag verifies that no revision begins with a hyphen, because revisions are printed as arguments of commands.
func TestRevisionOf_IsNoFlag(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	var text strings.Builder
	for i := range 500 {
		fmt.Fprintln(&text, ruleLine("shop", fmt.Sprintf("https://many.example/%d/", i)))
	}
	importNDJSON(s, "rules", text.String())
	list := s.Admin("GET", "/rules?limit=1000", "").Body
	assert.True(t, strings.Count(list, `"revision":"`) == 500 && !strings.Contains(list, `"revision":"-`), "got %s, want no -", list)
}

// TestRuleImport_TruncatedBody verifies that a body that is truncated between two lines is rejected and leaves no rule and no file.
func TestRuleImport_TruncatedBody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: shop, Data: dir})
	before := exportRules(s)
	u := require.Value(url.Parse(s.URL))(t)
	conn := require.Value(net.Dial("tcp", u.Host))(t)
	defer conn.Close()
	line := ruleLine("shop", "https://half.example/") + "\n"
	fmt.Fprintf(conn,
		"POST /admin/v1/import/rules HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s", u.Host,
		2*len(line), line)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	status, _ := bufio.NewReader(conn).ReadString('\n')
	_, _ = io.Copy(io.Discard, conn)
	assert.True(t, strings.Contains(status, " 400 "), "status %q, want 400", status)
	assert.Equal(t, exportRules(s), before, "rules after a truncated import")
	entries := require.Value(os.ReadDir(dir))(t)
	for _, e := range entries {
		assert.True(t, !strings.HasPrefix(e.Name(), ".import"), "temporary file %s was not removed", e.Name())
	}
}

// TestImport_LongestLines verifies that the export of an account, a rule and a GS1 key with the longest fields that calls can store can be
// imported.
func TestImport_LongestLines(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	list := func(n int, format string, length int) string {
		var items []string
		for i := range n {
			items = append(items, fmt.Sprintf(format, fmt.Sprintf("%0*d", length-5, i)))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	s.Admin("PUT", "/accounts/large", `{"kind":"mini_program","name":"Large","subject":"company","pages":`+list(1000, `"p/%s"`, 256)+`}`)
	s.Admin("PUT", "/gs1/links/01/09506000134369", `{"links":`+
		strings.Replace(list(100, `{"linktype":"gs1:pip","title":"x","href":"https://h.example/%s"}`, 2000), `"x"`, `"x","default":true`,
			1)+`}`)
	importNDJSON(s, "rules", `{"owner":"shop","prefix":"https://big.example/","path":"p","test_links":`+
		list(5, `"https://big.example/%s"`, 4000)+`}`).WantStatus(t, 200, "a rule with long test links")
	for _, kind := range []string{"accounts", "rules", "gs1"} {
		got := servertest.Decode[importResult](t, importNDJSON(s, kind, s.Admin("GET", "/export/"+kind, "").Body))
		assert.True(t, got.Lines > 0 && got.Unchanged == got.Lines, "import of exported %s = %+v, want unchanged lines", kind, got)
	}
}
