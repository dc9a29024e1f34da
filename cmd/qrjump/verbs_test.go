package main

import (
	"bytes"
	"cmp"
	"context"
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

// The APIs that a verb calls.
const (
	none      = "" // it calls no server
	wireAPI   = "wire"
	scanAPI   = "scan"
	adminAPI  = "admin"
	otherTest = "another test" // it serves, or ends the program
)

// verb is a command line with its output after success. $NAME in its words is replaced by a value from the output of earlier commands.
type verb struct {
	path  string // as the help shows it
	api   string
	words string // after the path
	in    string // standard input
	says  string // regular expression; "" = not run against the right server
	exit  int    // what it ends with there; says is of standard error, if it is not 0
	after func(*world)
}

//go:embed testdata/verbs.txt
var verbLines string

// everyVerb is a story in which each verb of the command line appears: the lines of testdata/verbs.txt.
var everyVerb = sync.OnceValue(func() (list []verb) {
	apis := map[string]string{"-": none, "wire": wireAPI, "scan": scanAPI, "admin": adminAPI, "other": otherTest}
	for line := range strings.Lines(verbLines) {
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
		list = append(list, verb{path: f[0], api: api, words: f[2], says: f[3], exit: exit, after: step,
			in: strings.ReplaceAll(f[6], `\n`, "\n")})
	}
	return list
})

// steps are what the story does after a line that names one: it checks what the command did, or keeps a value for later lines.
var steps = map[string]func(*world){
	"photo": func(w *world) { w.found["PHOTO"] = w.found["OUT"] },
	"jumping is off": func(w *world) {
		a, err := w.operator.Accounts.Get(w.t.Context(), "shop1")
		assert.True(w.t, err == nil && !a.JumpOpen, "jumping was switched off, and is %v, %v", a.JumpOpen, err)
	},
	"openid": func(w *world) {
		w.found["OPENID"] = regexp.MustCompile(`(?m)^openid +(\S{28})$`).FindStringSubmatch(w.tr)[1]
	},
	"rule change": func(w *world) {
		list, err := w.operator.Rules.ListChanges(w.t.Context(), "https://tea.example/u/")
		require.True(w.t, err == nil && len(list) != 0, "%v %v", list, err)
		w.found["SEQ"], w.found["RID"] = fmt.Sprint(list[0].Seq), list[0].RID
	},
	"application":  func(w *world) { w.found["ID"] = strings.Trim(strings.Fields(w.tr)[1], ";") },
	"code scanned": func(w *world) { w.scanCode() },
	"code void": func(w *world) {
		c, err := w.operator.Codes.Get(w.t.Context(), client.CodeName{ID: w.batch(), Index: 6})
		assert.True(w.t, err == nil && c.Void, "the code was voided, and is %+v, %v", c, err)
	},
	"import undone": func(w *world) {
		b, err := w.operator.Batches.Get(w.t.Context(), 481865877)
		assert.True(w.t, err != nil, "the import was taken back, and is %+v", b)
	},
	"signer": func(w *world) { require.NoError(w.t, os.WriteFile(w.found["SIGNER"], []byte(w.tr), 0o600)) },
	"key":    func(w *world) { w.found["KEYID"] = regexp.MustCompile(`[0-9a-f]{16}`).FindString(w.tr) },
	"gs1 change": func(w *world) {
		list, err := w.operator.AuditLog.List(w.t.Context(), client.ChangesQuery{Newest: true, Kind: "gs1", Limit: 1})
		require.True(w.t, err == nil && len(list) == 1, "%v %v", list, err)
		w.found["GS1"] = fmt.Sprint(list[0].Seq)
	},
	"authorization asked": func(w *world) { w.askForAuthorization() },
	"link asked":          func(w *world) { w.askForLink() },
	"archive":             func(w *world) { w.found["ARCHIVE"] = w.found["OUT"] },
}

const bound = "--activity a --brand b --title t --product-code 6901234567892 --target shop --path pages/i/i"

//go:embed testdata/seeds/verbs.yaml
var verbsSeed string

// faultsFile is for fault add.
const faultsFile = `faults: [{method: GET, path: /cgi-bin/menu/get, response: {body: {menu: {button: []}}}, remaining: 3}]
`

// world is a server in production as the README starts it, each API on a listener of its own, with the emulator's controls.
type world struct {
	t        *testing.T
	dir      string
	addr     server.Addresses
	operator *client.Client
	found    map[string]string
	tr       string // by the verb before
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), found: map[string]string{"BRAND": "--appid brand --secret the-secret-of-both", "PAGE": bound}}
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	w.found["HOOK"], w.found["FAULTS"] = hook.URL, filepath.Join(w.dir, "faults.yaml")
	for name, text := range map[string]string{"faults.yaml": faultsFile, "seed.yaml": verbsSeed,
		"passphrase.txt": "a long passphrase\n", "calls.ndjson": aCassette, "codes.txt": codesFile,
		"rules.yaml": "rules:\n  - {prefix: https://tea.example/w/, path: pages/w/w}\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
	}
	w.found["PARCEL"], w.found["SIGNER"] = filepath.Join(w.dir, "package.age"), filepath.Join(w.dir, "signer.txt")
	w.found["CODES"] = filepath.Join(w.dir, "codes.txt")
	w.found["JOB"] = filepath.Join(w.dir, "job")
	w.found["CASSETTE"] = filepath.Join(w.dir, "calls.ndjson")
	w.found["RULES"], w.found["PASSPHRASE"] = filepath.Join(w.dir, "rules.yaml"), filepath.Join(w.dir, "passphrase.txt")
	w.found["AESKEY"] = strings.Repeat("abcdefghijk", 4)[:43]
	w.found["RESTORED"] = filepath.Join(w.dir, "restored")
	c := server.Config{Data: filepath.Join(w.dir, "data"), Listen: "127.0.0.1:0", ScanListen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		Emulator: true,
		Seed:     filepath.Join(w.dir, "seed.yaml"), CodePrefix: "C.EXAMPLE/", LogFormat: "text"}
	s, err := server.Start(t.Context(), c, io.Discard, server.TestHooks{PassphraseWork: 4})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	w.addr = server.Addresses{Wire: s.URL, Scan: s.ScanURL, Admin: s.AdminURL}
	token, err := os.ReadFile(filepath.Join(c.Data, "admin-token"))
	require.NoError(t, err)
	w.found["TOKEN"] = strings.TrimSpace(string(token))
	w.operator, err = client.New(s.AdminURL, client.Options{AdminToken: w.found["TOKEN"]})
	require.NoError(t, err)
	w.found["KEY"], err = w.operator.ScanKeys.Create(t.Context(), client.ScanKey{Name: "app"})
	require.NoError(t, err)
	return w
}

func (w *world) batch() (id int64) {
	require.NoError(w.t, assert.ErrorOf(fmt.Sscan(w.found["ID"], &id)))
	return id
}

// post makes a call of the wire.
func (w *world) post(path string, body map[string]any) map[string]any {
	w.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(w.t, err)
	resp, err := http.Post(w.addr.Wire+path, "application/json", bytes.NewReader(text))
	require.NoError(w.t, err)
	defer resp.Body.Close()
	var answer map[string]any
	require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer
}

var verifyTicket = regexp.MustCompile(`ticket@@@\S+`)

// askForAuthorization asks as a platform that an account may agree, by the ticket that was made for it.
func (w *world) askForAuthorization() {
	token := w.post("/cgi-bin/component/api_component_token", map[string]any{"component_appid": "isv",
		"component_appsecret":     "the-secret-of-the-isv",
		"component_verify_ticket": verifyTicket.FindString(w.tr)})["component_access_token"]
	code := w.post(fmt.Sprint("/cgi-bin/component/api_create_preauthcode?component_access_token=", token),
		map[string]any{"component_appid": "isv"})["pre_auth_code"]
	w.found["PREAUTH"] = fmt.Sprint(code)
}

// askForLink asks as a service account for a link that waits for an answer.
func (w *world) askForLink() {
	require.NoError(w.t, w.operator.Settings.Update(w.t.Context(), map[string]any{"link_approval_required": true,
		"behaviours": map[string]string{"link.own_token_taken": "allow"}}))
	brand, err := client.New(w.addr.Wire, client.Options{AppID: "brand", Secret: "the-secret-of-both"})
	require.NoError(w.t, err)
	token, err := brand.Wire.GetToken(w.t.Context())
	require.NoError(w.t, err)
	a := w.post("/cgi-bin/wxopen/wxamplink?access_token="+token.AccessToken,
		map[string]any{"appid": "shop1", "notify_users": 0, "show_profile": 0})
	require.True(w.t, fmt.Sprint(a["errcode"]) == "0", "%v", a)
	list, err := w.operator.Verifications.ListChecks(w.t.Context(), client.VerificationQuery{})
	require.True(w.t, err == nil && len(list) != 0, "%v %v", list, err)
	w.found["CONFIRMED"] = list[0].RID
}

// scanCode scans the first code, for its ticket.
func (w *world) scanCode() {
	c, err := w.operator.Codes.Get(w.t.Context(), client.CodeName{ID: w.batch()})
	require.NoError(w.t, err)
	scanner, err := client.New(w.addr.Scan, client.Options{ScanKey: w.found["KEY"]})
	require.NoError(w.t, err)
	d, err := scanner.Scans.Resolve(w.t.Context(), client.ScanRequest{Text: c.CodeURL, User: "alice"})
	require.NoError(w.t, err)
	_, w.found["TICKET"], _ = strings.Cut(d.Path, "code_ticket=")
}

// play runs one command line in this process.
func play(t *testing.T, v verb, found map[string]string) (code int, out, errs string) {
	t.Helper()
	args := strings.Fields(v.path)
	args = append(args, strings.Fields(os.Expand(v.words, func(name string) string { return found[name] }))...)
	var stdout, stderr bytes.Buffer
	code = run(session{ctx: t.Context(), in: strings.NewReader(v.in), out: &stdout, err: &stderr}, args)
	return code, stdout.String(), stderr.String()
}

// environment are the variables of the command line, all others being unset.
func environment(t *testing.T, values map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "QRJUMP_") {
			t.Setenv(name, "") // so that it is what it was afterwards
			os.Unsetenv(name)
		}
	}
	for name, value := range values {
		t.Setenv("QRJUMP_"+name, value)
	}
}

// leaves are the verbs of the table of commands.
func leaves(t *testing.T) (paths []string) {
	t.Helper()
	var c commands
	parser, err := newParser(session{ctx: context.Background(), out: io.Discard, err: io.Discard}, &c)
	require.NoError(t, err)
	for _, leaf := range parser.Model.Leaves(false) {
		paths = append(paths, leaf.Path())
	}
	return paths
}

// codesFile has two codes as the platform makes them. Contract: marketcode 5.2.
var codesFile = strings.Repeat("0", 361) + " 044GZ*J10 0 P.URL.CN/0ALL$V2QCNVRHYPO:K3\n" +
	strings.Repeat("1", 361) + " 044GZ*J11 1 P.URL.CN/0FQR/LZ6/0HD0Q7Y3-*\n"

// Issue 11, 4: every verb of the command line is in the story above.
func TestVerbs_EachHasCase(t *testing.T) {
	table := leaves(t)
	for _, path := range table {
		plays := func(v verb) bool { return v.path == path && (v.says != "" || v.api == otherTest) }
		assert.True(t, slices.ContainsFunc(everyVerb(), plays), "%s is not in everyVerb: add a line that runs it, with what it says", path)
	}
	for _, v := range everyVerb() {
		assert.True(t, slices.Contains(table, v.path), "there is no verb %s", v.path)
	}
}

// Issue 11, 4: the production set-up of the README. The verbs find each API by the data folder, or by flags.
func TestVerbs_SeparateListeners(t *testing.T) {
	for name, flags := range map[string]func(*world) map[string]string{
		"by the data directory": func(w *world) map[string]string { return map[string]string{"DATA": filepath.Join(w.dir, "data")} },
		"by the public address and the data directory": func(w *world) map[string]string {
			return map[string]string{"SERVER": w.addr.Wire, "DATA": filepath.Join(w.dir, "data")}
		},
		"by flags": func(w *world) map[string]string {
			return map[string]string{"SERVER": w.addr.Wire, "SCAN_SERVER": w.addr.Scan,
				"ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.found["TOKEN"]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			w := newWorld(t)
			values := flags(w)
			called := servertest.NewCalled()
			var playing atomic.Value // string
			if at := values["ADMIN_SERVER"]; at != "" {
				values["ADMIN_SERVER"] = between(t, at, func(r *http.Request) { called.Note(r, playing.Load().(string)) })
				defer func() {
					if !t.Failed() { // else the story broke off
						called.Parity(t, servertest.CommandLine)
					}
				}()
			}
			values["APPID"], values["SECRET"], values["KEY"] = "shop", "the-secret-of-both", w.found["KEY"]
			production := map[string]string{"CONTEXTS": filepath.Join(w.dir, "contexts.yaml"), "APPID": values["APPID"],
				"SECRET": values["SECRET"]}
			environment(t, production)
			mill := verb{path: "context set", words: "mill --production --data " + filepath.Join(w.dir, "data")}
			code, _, errs := play(t, mill, nil)
			require.True(t, code == exitDone, "%v", errs)
			environment(t, values)
			headed := map[string]bool{}
			for i, v := range everyVerb() {
				if v.says == "" {
					continue
				}
				w.found["OUT"] = filepath.Join(w.dir, fmt.Sprint("out-", i))
				playing.Store(v.path)
				asks(t, v, w.found, "")
				if name == "by the data directory" {
					environment(t, production)
					asks(t, v, w.found, "--yes")
					environment(t, values)
				}
				code, out, errs := play(t, v, w.found)
				if v.exit != exitDone {
					out, errs = errs, out
				}
				require.True(t, code == v.exit && errs == "" && regexp.MustCompile(v.says).MatchString(strings.TrimSuffix(out, "\n")),
					"%s %s: exit %d, want %d and %s\n%s%s", v.path, v.words, code, v.exit, v.says, out, errs)
				newestLast(t, v, out)
				if strings.HasSuffix(v.path, " list") && !strings.Contains(v.words, "--output=json") || strings.Contains(v.words,
					"--output json") {
					words := v.words
					v.words += " --no-headers"
					_, bare, _ := play(t, v, w.found)
					v.words = words
					headed[v.path] = headed[v.path] || oneLineMore(out, bare)
				}
				if w.tr = strings.TrimSpace(out); v.after != nil {
					v.after(w)
				}
			}
			for _, path := range leaves(t) {
				elsewhere := path == "context list" // a file
				assert.True(t, !strings.HasSuffix(path, " list") || headed[path] || elsewhere,
					"no line of everyVerb has %s print a head above many", path)
			}
		})
	}
}

// asks is whether a verb that was given --yes does nothing where nobody can be asked: without it, and with it alone where the context
// is one of production.
func asks(t *testing.T, v verb, found map[string]string, with string) {
	t.Helper()
	words := strings.Fields(v.words)
	if !slices.Contains(words, "--yes") || v.exit != exitDone {
		return
	}
	wants := "--yes"
	if with != "" {
		wants = "add --context mill and --yes"
	}
	v.words = strings.Join(append(slices.DeleteFunc(words, func(word string) bool { return word == "--yes" }), with), " ")
	code, out, errs := play(t, v, found)
	assert.True(t, code == exitMisused && out == "" && strings.Contains(errs, wants) && strings.Contains(errs, "nothing was changed"),
		"%s %s ends something, and nobody agreed: exit %d\n%s%s", v.path, v.words, code, out, errs)
}

// oneLineMore reports whether a list has one line more than it has without heads, which may be narrower.
func oneLineMore(list, bare string) bool {
	lines, without := strings.Split(list, "\n"), strings.Split(bare, "\n")
	for i, line := range without {
		if !slices.Equal(strings.Fields(line), strings.Fields(lines[i])) {
			lines = slices.Delete(lines, i, i+1)
			break
		}
	}
	return len(lines) == len(without) && len(strings.Fields(bare)) > 0 && list != bare
}

// newestLast is whether a table that begins with numbers or moments has the newest last, above the prompt.
func newestLast(t *testing.T, v verb, out string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	head, _, _ := strings.Cut(lines[0], " ")
	if head != "SEQ" && head != "ID" && head != "TIME" {
		return
	}
	before := ""
	for _, line := range lines[1:] {
		first, _, _ := strings.Cut(line, " ")
		if first == "" || first[0] < '0' || first[0] > '9' {
			return // below the table
		}
		assert.True(t, len(first) >= len(before) && (len(first) != len(before) || first >= before),
			"%s %s has %s behind %s", v.path, v.words, first, before)
		before = first
	}
}

// A meaning is that of a verb's last word, for a thing of its noun.
type meaning struct {
	path  string
	words string // after it
	twice string // words of a second line, which is played after the first
	exit  int    // of the last line
	why   string // it differs
}

// Issue 33, 3: list, show, add, set and delete mean one thing. A list is looked at by TestVerbs_SeparateListeners.
func TestVerbs_ConsistentNaming(t *testing.T) {
	var meanings []meaning
	for _, row := range testtable.Rows(t, "testdata/meanings.txt", 5) {
		exit, err := strconv.Atoi(row[3])
		require.NoError(t, err)
		meanings = append(meanings, meaning{row[0], row[1], row[2], exit, row[4]})
	}
	t.Chdir(t.TempDir())
	w := newWorld(t)
	environment(t, map[string]string{"DATA": filepath.Join(w.dir, "data"), "APPID": "shop", "SECRET": "the-secret-of-both",
		"CONTEXTS": filepath.Join(w.dir, "contexts.yaml")})
	require.NoError(t, w.operator.Settings.Update(t.Context(), map[string]any{"allow_private_hosts": true}))
	usual := map[string]bool{"show": true, "add": true, "set": true, "delete": true}
	near := map[string]bool{"get": true, "put": true, "change": true, "forget": true, "erase": true}
	model := (&session{}).fullManual()
	for _, leaf := range model.Leaves(true) {
		path := leaf.Path()
		switch {
		case usual[leaf.Name] && !slices.ContainsFunc(meanings, func(m meaning) bool { return m.path == path }):
			t.Errorf("%s is not in meanings.txt: add a line that shows what it means", path)
		case near[leaf.Name]:
			t.Errorf("%s is nearly show, add, set or delete: name it so", path)
		}
	}
	for _, m := range meanings {
		if m.why != "" && m.words == "" {
			continue
		}
		v := verb{path: m.path, words: m.words}
		code, _, errs := play(t, v, w.found)
		if m.twice != "" {
			assert.True(t, code == exitDone, "%s %s: exit %d: %s", v.path, v.words, code, errs)
			v.words = m.twice
			code, _, errs = play(t, v, w.found)
		}
		assert.True(t, code == m.exit, "%s %s: exit %d, want %d: %s", v.path, v.words, code, m.exit, errs)
	}
	code, out, errs := play(t, verb{path: "--data " + filepath.Join(w.dir, "data") + " account set", words: "shop5 --name Tee"}, nil)
	assert.True(t, code == exitDone, "%v %v %v", code, out, errs)
}

// whatEnds are the last words of verbs, and flags, by whether what they do deletes or stops something.
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

// agreesElsewhere are verbs with such a word that end nothing that somebody would miss, or nothing at all.
var agreesElsewhere = map[string]string{
	"rule plan":   "it only says what would be done",
	"rule replay": "it only says what would have been done",
	"gs1 plan":    "it only says what would be done",
}

// A verb that deletes or stops something asks on a terminal, and wants --yes elsewhere.
func TestVerbs_ConfirmDestructive(t *testing.T) {
	var c commands
	parser, err := newParser(session{ctx: context.Background(), out: io.Discard, err: io.Discard}, &c)
	require.NoError(t, err)
	ends, stays := strings.Fields(whatEnds[true]), strings.Fields(whatEnds[false])
	for _, leaf := range parser.Model.Leaves(false) {
		words := []string{leaf.Name}
		yes := false
		for _, f := range leaf.Flags {
			words = append(words, "--"+f.Name)
			yes = yes || f.Name == "yes"
		}
		if !slices.Contains(ends, leaf.Name) && !slices.Contains(stays, leaf.Name) {
			t.Errorf("%s: say in whatEnds whether %q deletes or stops something", leaf.Path(), leaf.Name)
		}
		end := slices.ContainsFunc(words, func(word string) bool { return slices.Contains(ends, word) })
		switch _, excused := agreesElsewhere[leaf.Path()]; {
		case excused && (!end || yes):
			t.Errorf("%s: agreesElsewhere has it, and it needs no excuse", leaf.Path())
		case end && !yes && !excused:
			t.Errorf("%s ends something: embed ending, ask by confirmed, and add --yes to its line in everyVerb", leaf.Path())
		}
	}
}

// between stands in front of a server and sees each request. It returns its address.
func between(t *testing.T, server string, see func(*http.Request)) string {
	t.Helper()
	at, err := url.Parse(server)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(at)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		see(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// No command reports success if another program answers in place of the server.
func TestVerbs_UnexpectedResponseFails(t *testing.T) {
	t.Chdir(t.TempDir())
	w := newWorld(t)
	w.found["ARCHIVE"] = filepath.Join(w.dir, "archive")
	environment(t, map[string]string{"ADMIN_SERVER": w.addr.Admin, "ADMIN_TOKEN": w.found["TOKEN"]})
	code, _, errs := play(t, verb{path: "export", words: "$ARCHIVE --passphrase-file $PASSPHRASE"}, w.found)
	require.True(t, code == 0, "%v", errs)
	answers := func(status int, kind, body string) func() string {
		return func() string {
			stranger := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if kind != "" {
					rw.Header().Set("Content-Type", kind)
				}
				rw.WriteHeader(status)
				io.WriteString(rw, body)
			}))
			t.Cleanup(stranger.Close)
			return stranger.URL
		}
	}
	at := func(url string) func() string { return func() string { return url } }
	const anyAPI = "any"
	const unknownPath = `{"errcode":40066,"errmsg":"invalid url rid: 5f87eb8a-6ee66b1b-75f60c88"}`
	for name, test := range map[string]struct {
		url  func() string
		only string // verbs of this API; any = all
	}{
		"hello":                      {answers(200, "application/json", `{"hello":1}`), anyAPI},
		"an empty object":            {answers(200, "application/json", `{}`), anyAPI},
		"a list":                     {answers(200, "application/json", `[]`), anyAPI},
		"an errcode":                 {answers(200, "application/json", unknownPath), anyAPI},
		"a page that is not found":   {answers(404, "text/html", "<html>\n404\n</html>"), anyAPI},
		"nobody":                     {at("http://127.0.0.1:1"), anyAPI},
		"the public listener: admin": {at(w.addr.Wire), adminAPI}, "the public listener: scan": {at(w.addr.Wire), scanAPI},
		"the admin listener: wire": {at(w.addr.Admin), wireAPI}, "the admin listener: scan": {at(w.addr.Admin), scanAPI},
		"the scan listener: wire": {at(w.addr.Scan), wireAPI}, "the scan listener: admin": {at(w.addr.Scan), adminAPI},
	} {
		t.Run(name, func(t *testing.T) {
			url := test.url()
			found := map[string]string{"ID": "500000001", "PAGE": bound, "TICKET": "t", "OPENID": "o",
				"SEQ": "1", "BRAND": "", "RID": "r",
				"AESKEY": "k", "PREAUTH": "p", "KEYID": "k", "CONFIRMED": "r", "GS1": "1",
				"EMPTY": t.TempDir()}
			for _, name := range []string{"RULES", "PASSPHRASE", "HOOK", "FAULTS", "PARCEL", "CODES", "ARCHIVE"} {
				found[name] = w.found[name]
			}
			for _, caller := range []struct{ api, name, value string }{
				{adminAPI, "ADMIN_TOKEN", w.found["TOKEN"]}, {scanAPI, "KEY", w.found["KEY"]},
				// with one, no token is fetched before the call itself
				{wireAPI, "SECRET", "the-secret-of-both"}, {wireAPI, "ACCESS_TOKEN", "theirs"},
			} {
				environment(t, map[string]string{"SERVER": url, "SCAN_SERVER": url, "ADMIN_SERVER": url, "APPID": "shop",
					caller.name: caller.value})
				for i, v := range everyVerb() {
					if v.api != caller.api || test.only != anyAPI && v.api != test.only {
						continue
					}
					found["OUT"] = filepath.Join(w.dir, fmt.Sprint("never-", i))
					code, out, errs := play(t, v, found)
					line := strings.TrimSuffix(errs, "\n")
					named := strings.Contains(line, url) || strings.Contains(line, "errcode 40066")
					begins := "qrjump: "
					if strings.Contains(v.words, "--output=json") || strings.Contains(v.words, "--output json") {
						begins = `{"error":{"kind":`
					}
					assert.True(t, code != 0 && out == "" && strings.HasPrefix(line, begins) && !strings.Contains(line, "\n") && named,
						"%s %s: exit %d, want another and one line with %s\n%s%s", v.path, v.words, code, url, out, errs)
					assert.True(t, assert.ErrorOf(os.Stat(found["OUT"])) != nil, "%s %s left a file", v.path, v.words)
				}
			}
		})
	}
	// Nothing was done at any of the listeners.
	list, err := w.operator.Accounts.List(t.Context(), "", 0)
	assert.True(t, err == nil && len(list) == 2, "got the accounts %+v, %v, want those of the seed", list, err)
}
