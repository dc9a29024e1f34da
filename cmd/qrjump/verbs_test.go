package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// The APIs that a command calls.
const (
	noAPI    = "" // it calls no server
	wireAPI  = "wire"
	scanAPI  = "scan"
	adminAPI = "admin"
	otherAPI = "another test" // it serves, or ends the program; another test runs it
)

// verbCase is a command line with its expected result. $NAME in its words is replaced by a value from the output of earlier commands.
type verbCase struct {
	path  string // as the help shows it
	api   string
	words string // after the path
	in    string // standard input
	want  string // regular expression of the output; "" = not run against the right server
	exit  int    // the exit code there; if it is not 0, want is for standard error
	after func(*testServer)
}

//go:embed testdata/verbs.txt
var verbsFile string

// verbCases returns the lines of testdata/verbs.txt. They run in this order and contain each command at least once.
var verbCases = sync.OnceValue(func() (list []verbCase) {
	apis := map[string]string{"-": noAPI, "wire": wireAPI, "scan": scanAPI, "admin": adminAPI, "other": otherAPI}
	for line := range strings.Lines(verbsFile) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := append(strings.Split(strings.TrimSuffix(line, "\n"), "\t"), make([]string, 6)...)
		api, isAPI := apis[f[1]]
		step, isStep := steps[f[5]]
		exit, err := strconv.Atoi(cmp.Or(f[4], "0"))
		if err != nil || !isAPI || !isStep && f[5] != "" {
			panic("verbs.txt: " + line)
		}
		list = append(list, verbCase{path: f[0], api: api, words: f[2], want: f[3], exit: exit, after: step,
			in: strings.ReplaceAll(f[6], `\n`, "\n")})
	}
	return list
})

// steps are functions that run after a line that names one: a step checks what the command did, or stores a value for later lines.
var steps = map[string]func(*testServer){
	"photo": func(w *testServer) { w.vars["PHOTO"] = w.vars["OUT"] },
	"jumping is off": func(w *testServer) {
		a, err := w.operator.Accounts.Get(w.t.Context(), "shop1")
		assert.True(w.t, err == nil && !a.JumpOpen, "JumpOpen of shop1 = %v, %v, want false", a.JumpOpen, err)
	},
	"openid": func(w *testServer) {
		w.vars["OPENID"] = regexp.MustCompile(`(?m)^openid +(\S{28})$`).FindStringSubmatch(w.output)[1]
	},
	"rule change": func(w *testServer) {
		list, err := w.operator.Rules.ListChanges(w.t.Context(), "https://tea.example/u/")
		require.True(w.t, err == nil && len(list) != 0, "changes of the rule = %v, %v, want some", list, err)
		w.vars["SEQ"], w.vars["RID"] = fmt.Sprint(list[0].Seq), list[0].RID
	},
	"application": func(w *testServer) { w.vars["ID"] = strings.Trim(strings.Fields(w.output)[1], ";") },
	"code scanned": func(w *testServer) { // the ticket of the first code
		c := require.Value(w.operator.Codes.Get(w.t.Context(), client.CodeName{ID: w.batch()}))(w.t)
		scanner := require.Value(client.New(w.addr.Scan, client.Options{ScanKey: w.vars["KEY"]}))(w.t)
		d := require.Value(scanner.Scans.Resolve(w.t.Context(), client.ScanRequest{Text: c.CodeURL, User: "alice"}))(w.t)
		_, w.vars["TICKET"], _ = strings.Cut(d.Path, "code_ticket=")
	},
	"code void": func(w *testServer) {
		c, err := w.operator.Codes.Get(w.t.Context(), client.CodeName{ID: w.batch(), Index: 6})
		assert.True(w.t, err == nil && c.Void, "code 6 = %+v, %v, want it void", c, err)
	},
	"import undone": func(w *testServer) {
		b, err := w.operator.Batches.Get(w.t.Context(), 481865877)
		assert.True(w.t, err != nil, "batch of the undone import = %+v, want an error", b)
	},
	"signer": func(w *testServer) { require.NoError(w.t, os.WriteFile(w.vars["SIGNER"], []byte(w.output), 0o600)) },
	"key":    func(w *testServer) { w.vars["KEYID"] = regexp.MustCompile(`[0-9a-f]{16}`).FindString(w.output) },
	"gs1 change": func(w *testServer) {
		list, err := w.operator.AuditLog.List(w.t.Context(), client.ChangesQuery{Newest: true, Kind: "gs1", Limit: 1})
		require.True(w.t, err == nil && len(list) == 1, "newest gs1 change = %v, %v, want one", list, err)
		w.vars["GS1"] = fmt.Sprint(list[0].Seq)
	},
	"authorization asked": func(w *testServer) {
		ticket := regexp.MustCompile(`ticket@@@\S+`).FindString(w.output)
		w.vars["PREAUTH"] = requestPreAuthCode(w.t, w.addr.Wire, "isv", "the-secret-of-the-isv", ticket)
	},
	"link asked": func(w *testServer) { w.requestLink() },
	"archive":    func(w *testServer) { w.vars["ARCHIVE"] = w.vars["OUT"] },
}

const testBinding = "--activity a --brand b --title t --product-code 6901234567892 --target shop --path pages/i/i"

//go:embed testdata/seeds/verbs.yaml
var verbsSeed string

// faultsFile is for fault add.
const faultsFile = `faults: [{method: GET, path: /cgi-bin/menu/get, response: {body: {menu: {button: []}}}, remaining: 3}]
`

// testServer is a production server as in the README: each API has a separate listener. The emulator's controls are on.
type testServer struct {
	t        *testing.T
	dir      string
	addr     server.Addresses
	operator *client.Client
	vars     map[string]string
	output   string // of the last command
}

func newTestServer(t *testing.T) *testServer {
	w := &testServer{t: t, dir: t.TempDir()}
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	w.vars = map[string]string{"BRAND": "--appid brand --secret the-secret-of-both", "PAGE": testBinding, "HOOK": hook.URL,
		"AESKEY": strings.Repeat("abcdefghijk", 4)[:43]}
	for name, file := range map[string]string{"FAULTS": "faults.yaml", "PARCEL": "package.age", "SIGNER": "signer.txt",
		"CODES": "codes.txt", "JOB": "job", "CASSETTE": "calls.ndjson", "RULES": "rules.yaml", "PASSPHRASE": "passphrase.txt",
		"RESTORED": "restored"} {
		w.vars[name] = filepath.Join(w.dir, file)
	}
	for name, text := range map[string]string{"faults.yaml": faultsFile, "seed.yaml": verbsSeed,
		"passphrase.txt": "a long passphrase\n", "calls.ndjson": sampleCassette, "codes.txt": codesFile,
		"rules.yaml": "rules:\n  - {prefix: https://tea.example/w/, path: pages/w/w}\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
	}
	c := server.Config{Data: filepath.Join(w.dir, "data"), Listen: "127.0.0.1:0", ScanListen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		Emulator: true, Seed: filepath.Join(w.dir, "seed.yaml"), CodePrefix: "C.EXAMPLE/", LogFormat: "text"}
	s := require.Value(server.Start(t.Context(), c, io.Discard, server.TestHooks{PassphraseWork: 4}))(t)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	w.addr = server.Addresses{Wire: s.URL, Scan: s.ScanURL, Admin: s.AdminURL}
	token := require.Value(os.ReadFile(filepath.Join(c.Data, "admin-token")))(t)
	w.vars["TOKEN"] = strings.TrimSpace(string(token))
	w.operator = require.Value(client.New(s.AdminURL, client.Options{AdminToken: w.vars["TOKEN"]}))(t)
	w.vars["KEY"] = require.Value(w.operator.ScanKeys.Create(t.Context(), client.ScanKey{Name: "app"}))(t)
	return w
}

func (w *testServer) batch() (id int64) {
	require.NoError(w.t, assert.ErrorOf(fmt.Sscan(w.vars["ID"], &id)))
	return id
}

// postJSON posts body as JSON and returns the decoded response.
func postJSON(t *testing.T, url string, body map[string]any) (response map[string]any) {
	t.Helper()
	text := require.Value(json.Marshal(body))(t)
	resp := require.Value(http.Post(url, "application/json", bytes.NewReader(text)))(t)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&response))
	return response
}

// requestPreAuthCode requests a code with which an account authorizes the third-party platform appid.
func requestPreAuthCode(t *testing.T, wireURL, appid, secret, ticket string) string {
	t.Helper()
	token := postJSON(t, wireURL+"/cgi-bin/component/api_component_token", map[string]any{"component_appid": appid,
		"component_appsecret": secret, "component_verify_ticket": ticket})
	code := postJSON(t, fmt.Sprint(wireURL, "/cgi-bin/component/api_create_preauthcode?component_access_token=",
		token["component_access_token"]), map[string]any{"component_appid": appid})
	require.True(t, code["pre_auth_code"] != nil, "api_create_preauthcode = %v after the token %v, want a code", code, token)
	return fmt.Sprint(code["pre_auth_code"])
}

// requestLink requests, as a service account, a link that waits for approval.
func (w *testServer) requestLink() {
	require.NoError(w.t, w.operator.Settings.Update(w.t.Context(), map[string]any{"link_approval_required": true,
		"behaviours": map[string]string{"link.own_token_taken": "allow"}}))
	brand := require.Value(client.New(w.addr.Wire, client.Options{AppID: "brand", Secret: "the-secret-of-both"}))(w.t)
	token := require.Value(brand.Wire.GetToken(w.t.Context()))(w.t)
	a := postJSON(w.t, w.addr.Wire+"/cgi-bin/wxopen/wxamplink?access_token="+token.AccessToken,
		map[string]any{"appid": "shop1", "notify_users": 0, "show_profile": 0})
	require.True(w.t, fmt.Sprint(a["errcode"]) == "0", "wxamplink = %v, want errcode 0", a)
	list, err := w.operator.Verifications.ListChecks(w.t.Context(), client.VerificationQuery{})
	require.True(w.t, err == nil && len(list) != 0, "verification checks = %v, %v, want some", list, err)
	w.vars["CONFIRMED"] = list[0].RID
}

// runVerb runs the command line of v in this process, with the values of vars for its variables.
func runVerb(t *testing.T, v verbCase, vars map[string]string) (code int, out, errs string) {
	t.Helper()
	words := os.Expand(v.words, func(name string) string { return vars[name] })
	return commandWithInput(t.Context(), v.in, append(strings.Fields(v.path), strings.Fields(words)...)...)
}

// setEnvironment sets QRJUMP_NAME for each name in values and unsets all other QRJUMP_ variables until the test ends.
func setEnvironment(t *testing.T, values map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "QRJUMP_") {
			t.Setenv(name, "") // restores the value when the test ends
			os.Unsetenv(name)
		}
	}
	for name, value := range values {
		t.Setenv("QRJUMP_"+name, value)
	}
}

// codesFile has two codes in the platform's format. Contract: marketcode 5.2.
var codesFile = strings.Repeat("0", 361) + " 044GZ*J10 0 P.URL.CN/0ALL$V2QCNVRHYPO:K3\n" +
	strings.Repeat("1", 361) + " 044GZ*J11 1 P.URL.CN/0FQR/LZ6/0HD0Q7Y3-*\n"

// TestVerbs_EachHasCase verifies that testdata/verbs.txt runs every command and names no other.
func TestVerbs_EachHasCase(t *testing.T) {
	paths := map[string]bool{}
	for _, leaf := range (&session{}).fullManual().Leaves(false) {
		path := leaf.Path()
		paths[path] = true
		runs := func(v verbCase) bool { return v.path == path && (v.want != "" || v.api == otherAPI) }
		assert.True(t, slices.ContainsFunc(verbCases(), runs), "%s is not in verbs.txt: add a line that runs it, with its output", path)
	}
	for _, v := range verbCases() {
		assert.True(t, paths[v.path], "verbs.txt has %s, want a command of the program", v.path)
	}
}

// TestVerbs_SeparateListeners runs every command against the production server of the README. The command line finds each API through
// the data folder, or through flags.
func TestVerbs_SeparateListeners(t *testing.T) {
	for name, flags := range map[string]func(*testServer) map[string]string{
		"by the data directory": func(w *testServer) map[string]string { return map[string]string{"DATA": filepath.Join(w.dir, "data")} },
		"by the public address and the data directory": func(w *testServer) map[string]string {
			return map[string]string{"SERVER": w.addr.Wire, "DATA": filepath.Join(w.dir, "data")}
		},
		"by flags": func(w *testServer) map[string]string {
			return map[string]string{"SERVER": w.addr.Wire, "SCAN_SERVER": w.addr.Scan,
				"ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.vars["TOKEN"]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			w := newTestServer(t)
			values := flags(w)
			called := servertest.NewCalled()
			var current atomic.Value // string: the path of the running command
			if admin := values["ADMIN_SERVER"]; admin != "" {
				values["ADMIN_SERVER"] = startProxy(t, admin, func(r *http.Request) { called.Note(r, current.Load().(string)) })
				defer func() {
					if !t.Failed() { // a failed test has not run all commands
						called.Parity(t, servertest.CommandLine)
					}
				}()
			}
			values["APPID"], values["SECRET"], values["KEY"] = "shop", "the-secret-of-both", w.vars["KEY"]
			production := map[string]string{"CONTEXTS": filepath.Join(w.dir, "contexts.yaml"), "APPID": values["APPID"],
				"SECRET": values["SECRET"]}
			setEnvironment(t, production)
			code, _, errs := command(t.Context(), "context", "set", "mill", "--production", "--data", filepath.Join(w.dir, "data"))
			require.True(t, code == exitDone, "context set mill: exit %d: %s", code, errs)
			setEnvironment(t, values)
			hasHeader := map[string]bool{}
			for i, v := range verbCases() {
				if v.want == "" {
					continue
				}
				w.vars["OUT"] = filepath.Join(w.dir, fmt.Sprint("out-", i))
				current.Store(v.path)
				checkConfirmation(t, v, w.vars, "")
				if name == "by the data directory" {
					setEnvironment(t, production)
					checkConfirmation(t, v, w.vars, "--yes")
					setEnvironment(t, values)
				}
				code, out, errs := runVerb(t, v, w.vars)
				if v.exit != exitDone || out == "" { // a note instead of an empty list is on standard error
					out, errs = errs, out
				}
				isNote := v.exit == exitDone && !strings.HasPrefix(errs, "qrjump: ") // such as how to list more
				require.True(t, code == v.exit && (errs == "" || isNote) &&
					regexp.MustCompile(v.want).MatchString(strings.TrimSuffix(out, "\n")),
					"%s %s: exit %d, want %d and %s\n%s%s", v.path, v.words, code, v.exit, v.want, out, errs)
				checkNewestLast(t, v, out)
				if strings.HasSuffix(v.path, " list") && !strings.Contains(v.words, "--output=json") || strings.Contains(v.words,
					"--output json") {
					words := v.words
					v.words += " --no-headers"
					_, bare, _ := runVerb(t, v, w.vars)
					v.words = words
					hasHeader[v.path] = hasHeader[v.path] || hasHeaderLine(out, bare)
				}
				if w.output = strings.TrimSpace(out); v.after != nil {
					v.after(w)
				}
			}
			for _, leaf := range (&session{}).fullManual().Leaves(false) {
				path := leaf.Path() // context list reads a file, not a server
				assert.True(t, !strings.HasSuffix(path, " list") || hasHeader[path] || path == "context list",
					"no line of verbs.txt has %s print a header above its rows", path)
			}
		})
	}
}

// checkConfirmation verifies that a command with --yes changes nothing without a terminal if --yes is replaced by replacement: "", or,
// in a production context, --yes itself, which needs --context too.
func checkConfirmation(t *testing.T, v verbCase, vars map[string]string, replacement string) {
	t.Helper()
	words := strings.Fields(v.words)
	if !slices.Contains(words, "--yes") || v.exit != exitDone {
		return
	}
	wants := "--yes"
	if replacement != "" {
		wants = "add --context mill and --yes"
	}
	v.words = strings.Join(append(slices.DeleteFunc(words, func(word string) bool { return word == "--yes" }), replacement), " ")
	code, out, errs := runVerb(t, v, vars)
	assert.True(t, code == exitMisused && out == "" && strings.Contains(errs, wants) && strings.Contains(errs, "nothing was changed"),
		"%s %s without confirmation: exit %d, want %d and no change\n%s%s", v.path, v.words, code, exitMisused, out, errs)
}

// hasHeaderLine reports whether list is the output bare with a header line. The columns of bare may be narrower.
func hasHeaderLine(list, bare string) bool {
	lines, without := strings.Split(list, "\n"), strings.Split(bare, "\n")
	for i, line := range without {
		if !slices.Equal(strings.Fields(line), strings.Fields(lines[i])) {
			lines = slices.Delete(lines, i, i+1)
			break
		}
	}
	return len(lines) == len(without) && len(strings.Fields(bare)) > 0 && list != bare
}

// checkNewestLast verifies that a table whose first column is a number or a time is in ascending order: the newest row is above the prompt.
func checkNewestLast(t *testing.T, v verbCase, out string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	header, _, _ := strings.Cut(lines[0], " ")
	if header != "SEQ" && header != "ID" && header != "TIME" {
		return
	}
	before := ""
	for _, line := range lines[1:] {
		first, _, _ := strings.Cut(line, " ")
		if first == "" || first[0] < '0' || first[0] > '9' {
			return // below the table
		}
		assert.True(t, len(first) >= len(before) && (len(first) != len(before) || first >= before),
			"%s %s prints %s after %s, want ascending order", v.path, v.words, first, before)
		before = first
	}
}

// TestVerbs_ConsistentNaming verifies that show, add, set and delete have the same meaning for every noun: each line of meanings.txt ends
// with its exit code. TestVerbs_SeparateListeners checks list.
func TestVerbs_ConsistentNaming(t *testing.T) {
	meanings := testtable.Rows(t, "testdata/meanings.txt", 5) // path, words, words of a second run, exit code, reason of an exception
	t.Chdir(t.TempDir())
	w := newTestServer(t)
	setEnvironment(t, map[string]string{"DATA": filepath.Join(w.dir, "data"), "APPID": "shop", "SECRET": "the-secret-of-both",
		"CONTEXTS": filepath.Join(w.dir, "contexts.yaml")})
	require.NoError(t, w.operator.Settings.Update(t.Context(), map[string]any{"allow_private_hosts": true}))
	standard := map[string]bool{"show": true, "add": true, "set": true, "delete": true}
	synonyms := map[string]bool{"get": true, "put": true, "change": true, "forget": true, "erase": true}
	for _, leaf := range (&session{}).fullManual().Leaves(true) {
		path := leaf.Path()
		switch {
		case standard[leaf.Name] && !slices.ContainsFunc(meanings, func(row []string) bool { return row[0] == path }):
			t.Errorf("%s is not in meanings.txt: add a line that runs it", path)
		case synonyms[leaf.Name]:
			t.Errorf("%s is a synonym of show, add, set or delete: use that word", path)
		}
	}
	for _, row := range meanings {
		if row[4] != "" && row[1] == "" {
			continue
		}
		v := verbCase{path: row[0], words: row[1]}
		code, _, errs := runVerb(t, v, w.vars)
		if row[2] != "" {
			assert.True(t, code == exitDone, "%s %s: exit %d, want %d: %s", v.path, v.words, code, exitDone, errs)
			v.words = row[2]
			code, _, errs = runVerb(t, v, w.vars)
		}
		assert.True(t, strconv.Itoa(code) == row[3], "%s %s: exit %d, want %s: %s", v.path, v.words, code, row[3], errs)
	}
	code, out, errs := command(t.Context(), "--data", filepath.Join(w.dir, "data"), "account", "set", "shop5", "--name", "Tee")
	assert.True(t, code == exitDone, "account set with --data before the command: exit %d, want %d\n%s%s", code, exitDone, out, errs)
}

// whatEnds has the last words of commands, and flags: true lists those that delete or stop something, false the others.
var whatEnds = map[bool]string{
	true: `delete load force-delete deactivate freeze void recall spoil revoke reset
		--remove --end --prune --undo`,
	false: `__complete acknowledge activate add alarm alarms api apply appearance approve audit
		batch calls cells check clear codes compare completion conflicts consent deliveries deviations doctor download draw edit
		exchange export file grade health help history import label lint list list-codes listen log login-link lookup make
		open orders plan probe publish pull qr record recommend redeem reject
		replay restore-drill retarget rotate rules run save scan scans schedule search seed send serials serve set
		show signer snapshot status test token transfer undo unfreeze unmatched update verify version why`,
}

// unconfirmed are commands with a destructive word that need no confirmation, with the reason.
var unconfirmed = map[string]string{"rule plan": "a dry run", "rule replay": "a dry run", "gs1 plan": "a dry run"}

// TestVerbs_ConfirmDestructive verifies that every command that deletes or stops something has the flag --yes: it asks on a terminal, and
// requires --yes without one.
func TestVerbs_ConfirmDestructive(t *testing.T) {
	destructive, harmless := strings.Fields(whatEnds[true]), strings.Fields(whatEnds[false])
	for _, leaf := range (&session{}).fullManual().Leaves(false) {
		words := []string{leaf.Name}
		yes := false
		for _, f := range leaf.Flags {
			words = append(words, "--"+f.Name)
			yes = yes || f.Name == "yes"
		}
		if !slices.Contains(destructive, leaf.Name) && !slices.Contains(harmless, leaf.Name) {
			t.Errorf("%s: whatEnds lacks %q: add it to the destructive words or to the others", leaf.Path(), leaf.Name)
		}
		ends := slices.ContainsFunc(words, func(word string) bool { return slices.Contains(destructive, word) })
		switch _, excepted := unconfirmed[leaf.Path()]; {
		case excepted && (!ends || yes):
			t.Errorf("%s is in unconfirmed, and needs no exception", leaf.Path())
		case ends && !yes && !excepted:
			t.Errorf("%s is destructive: embed ending, call confirmed, and add --yes to its line in verbs.txt", leaf.Path())
		}
	}
}

// startProxy starts a reverse proxy for the server and returns its URL. It calls onRequest before it forwards a request.
func startProxy(t *testing.T, server string, onRequest func(*http.Request)) string {
	t.Helper()
	target := require.Value(url.Parse(server))(t)
	forward := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		onRequest(r)
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// TestVerbs_UnexpectedResponseFails verifies that no command reports success if a different program, or the listener of a different API,
// responds instead of the server.
func TestVerbs_UnexpectedResponseFails(t *testing.T) {
	t.Chdir(t.TempDir())
	w := newTestServer(t)
	w.vars["ARCHIVE"] = filepath.Join(w.dir, "archive")
	setEnvironment(t, map[string]string{"ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.vars["TOKEN"]})
	code, _, errs := runVerb(t, verbCase{path: "export", words: "$ARCHIVE --passphrase-file $PASSPHRASE"}, w.vars)
	require.True(t, code == 0, "export: exit %d, want 0: %s", code, errs)
	respond := func(status int, contentType, body string) string {
		other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			rw.Header().Set("Content-Type", contentType)
			rw.WriteHeader(status)
			io.WriteString(rw, body)
		}))
		t.Cleanup(other.Close)
		return other.URL
	}
	const anyAPI = "any"
	const unknownPath = `{"errcode":40066,"errmsg":"invalid url rid: 5f87eb8a-6ee66b1b-75f60c88"}`
	for name, test := range map[string]struct {
		url  string
		only string // commands of this API; any = all
	}{
		"hello":                      {respond(200, "application/json", `{"hello":1}`), anyAPI},
		"an empty object":            {respond(200, "application/json", `{}`), anyAPI},
		"a list":                     {respond(200, "application/json", `[]`), anyAPI},
		"an errcode":                 {respond(200, "application/json", unknownPath), anyAPI},
		"a page that is not found":   {respond(404, "text/html", "<html>\n404\n</html>"), anyAPI},
		"nobody":                     {"http://127.0.0.1:1", anyAPI},
		"the public listener: admin": {w.addr.Wire, adminAPI}, "the public listener: scan": {w.addr.Wire, scanAPI},
		"the admin listener: wire": {w.addr.Admin, wireAPI}, "the admin listener: scan": {w.addr.Admin, scanAPI},
		"the scan listener: wire": {w.addr.Scan, wireAPI}, "the scan listener: admin": {w.addr.Scan, adminAPI},
	} {
		t.Run(name, func(t *testing.T) {
			vars := map[string]string{"ID": "500000001", "PAGE": testBinding, "TICKET": "t", "OPENID": "o", "SEQ": "1", "BRAND": "",
				"RID": "r", "AESKEY": "k", "PREAUTH": "p", "KEYID": "k", "CONFIRMED": "r", "GS1": "1", "EMPTY": t.TempDir()}
			for _, name := range []string{"RULES", "PASSPHRASE", "HOOK", "FAULTS", "PARCEL", "CODES", "ARCHIVE"} {
				vars[name] = w.vars[name]
			}
			for _, caller := range []struct{ api, name, value string }{
				{adminAPI, "ADMIN_TOKEN", w.vars["TOKEN"]}, {scanAPI, "KEY", w.vars["KEY"]},
				// With an access token, the client makes the call without a token request before it.
				{wireAPI, "SECRET", "the-secret-of-both"}, {wireAPI, "ACCESS_TOKEN", "theirs"},
			} {
				setEnvironment(t, map[string]string{"SERVER": test.url, "SCAN_SERVER": test.url, "ADMIN_SERVER": test.url, "APPID": "shop",
					caller.name: caller.value})
				for i, v := range verbCases() {
					if v.api != caller.api || test.only != anyAPI && v.api != test.only {
						continue
					}
					vars["OUT"] = filepath.Join(w.dir, fmt.Sprint("never-", i))
					code, out, errs := runVerb(t, v, vars)
					line := strings.TrimSuffix(errs, "\n")
					hasCause := strings.Contains(line, test.url) || strings.Contains(line, "errcode 40066")
					prefix := "qrjump: "
					if strings.Contains(v.words, "--output=json") || strings.Contains(v.words, "--output json") {
						prefix = `{"error":{"kind":`
					}
					assert.True(t, code != 0 && out == "" && strings.HasPrefix(line, prefix) && !strings.Contains(line, "\n") && hasCause,
						"%s %s: exit %d, want an error and one line with %s\n%s%s", v.path, v.words, code, test.url, out, errs)
					assert.True(t, assert.ErrorOf(os.Stat(vars["OUT"])) != nil, "%s %s created %s", v.path, v.words, vars["OUT"])
				}
			}
		})
	}
	// The commands changed nothing on the server.
	list, err := w.operator.Accounts.List(t.Context(), "", 0)
	assert.True(t, err == nil && len(list) == 2, "accounts = %+v, %v, want the two of the seed", list, err)
}
