package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// starting is the common part of the start commands, which lead a new user from a running server to the first scan. Start commands create
// missing objects by running other commands, and print these commands, so that the user learns them. Existing objects stay unchanged, so an
// interrupted start command can be repeated.
type starting struct {
	operator
	ran []string
}

// serverFlags returns the flags that locate the server; shown has the same flags quoted for a shell, with a variable for the token.
func (c *starting) serverFlags(admin bool) (flags, shown []string) {
	type flag struct{ name, value, env string }
	list := []flag{{"context", c.Context, "QRJUMP_CONTEXT"}, {"server", c.Server, "QRJUMP_SERVER"}, {"data", c.Data, "QRJUMP_DATA"},
		{"ca-file", c.CAFile, "QRJUMP_CA_FILE"}}
	if admin {
		list = append(list, flag{"admin-server", c.AdminServer, "QRJUMP_ADMIN_SERVER"},
			flag{"admin-token", c.AdminToken, "QRJUMP_ADMIN_TOKEN"})
	}
	for _, f := range list {
		if f.value == "" || f.value == os.Getenv(f.env) {
			continue
		}
		flags = append(flags, "--"+f.name+"="+f.value)
		if f.name == "admin-token" {
			shown = append(shown, `--admin-token="$`+f.env+`"`)
			continue
		}
		shown = append(shown, shellWord("--"+f.name+"="+f.value))
	}
	return flags, shown
}

// line returns a command in the form that a user types.
func (c *starting) line(admin bool, args ...string) string {
	_, shown := c.serverFlags(admin)
	return strings.Join(append([]string{"qrjump", shellWords(args...)}, shown...), " ")
}

// The method "do" prints and runs another command of this program; if admin is true, the command gets the flags of the admin API too.
func (c *starting) do(s *session, admin bool, stdin string, args ...string) error {
	flags, _ := c.serverFlags(admin)
	line := c.line(admin, args...)
	item := *s
	if stdin != "" {
		file, err := os.Open(stdin)
		if err != nil {
			return err
		}
		defer file.Close()
		item.in, line = file, line+" < "+shellWord(stdin)
	}
	c.ran = append(c.ran, line)
	if c.isJSON() {
		item.out = io.Discard
		flags = append(flags, "--lang=en")
	} else {
		fmt.Fprintln(s.out, "$ "+line)
		flags = append(flags, "--lang="+string(s.reader))
	}
	withZone := zone
	code := run(item, append(slices.Clone(args), flags...))
	outputLanguage, zone = s.reader, withZone
	if code != exitDone {
		return exitError{errReported, code}
	}
	return nil
}

// promptedFlag is a flag that the function prompt sets if the flag is empty; key selects the question, and offered is the default answer.
type promptedFlag struct {
	to                 *string
	flag, key, offered string
}

// prompt sets the empty flags: on a terminal it asks the user, elsewhere it uses the default answers. A flag that stays empty is an error.
func prompt(s *session, flags ...promptedFlag) error {
	for _, choice := range flags {
		if *choice.to != "" {
			continue
		}
		question, line := tr("start.ask."+choice.key), ""
		if atTerminal(s) {
			offer := textOr(choice.offered != "", " ["+plain(choice.offered)+"]: ", ": ")
			fmt.Fprint(s.err, question+offer)
			var err error
			if line, err = readTerminalLine(s); err != nil {
				return err
			}
		}
		if *choice.to = cmp.Or(line, choice.offered); *choice.to == "" {
			return misused("start.no_terminal", question, choice.flag)
		}
	}
	return nil
}

// onlyAccount returns the only account of a kind, or "" if there are none or several.
func onlyAccount(list []client.Account, kind string) (appid string) {
	for _, a := range list {
		if a.Kind == kind && appid != "" {
			return ""
		}
		if a.Kind == kind {
			appid = a.AppID
		}
	}
	return appid
}

// accountPlan describes an account that a start command needs: its kind, the required ability, and the flags that create it.
type accountPlan struct {
	appid, kind, ability string
	flags                []string // of account set
	secretFile           string   // standard input of account set; "" = none
}

// account returns the account of a plan, and creates it if it does not exist. missingNames lists the unfulfilled requirements of two
// abilities: the plan's ability, and the ability to get access tokens.
func (c *starting) account(s *session, qrjump *client.Client, p accountPlan) (a client.Account, missingNames []string, err error) {
	appid := p.appid
	a, err = qrjump.Accounts.Get(s.ctx, appid)
	if isNotFound(err) {
		if err = c.do(s, true, p.secretFile, append([]string{"account", "set", appid, "--kind", p.kind}, p.flags...)...); err != nil {
			return a, nil, err
		}
		a, err = qrjump.Accounts.Get(s.ctx, appid)
	}
	switch {
	case err != nil:
		return a, nil, aboutAccount(s, qrjump, "show", appid, err)
	case a.Kind != p.kind:
		return a, nil, misused("start.kind", appid, a.Kind, p.kind)
	}
	list, err := qrjump.Accounts.ListAbilities(s.ctx, appid)
	for _, item := range list {
		for _, n := range item.Requirements {
			if (item.Ability == p.ability || item.Ability == "tokens") && !n.Fulfilled {
				missingNames = append(missingNames, n.Requirement)
			}
		}
	}
	return a, missingNames, failed("show", appid, err)
}

// keep creates a file that only its owner can read, and prints the file's purpose. An existing file is left unchanged.
func (c *starting) keep(s *session, key, path, text, subject string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintln(f, text); err == nil && c.isTable() {
		printMsg(s.out, key, plain(path), plain(subject))
	}
	return errors.Join(err, f.Close())
}

// pictureOf returns the image format from a file name.
func pictureOf(path string) (string, error) {
	format := strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), ".")
	if !slices.Contains([]string{"svg", "png", "pdf"}, format) {
		return "", misused("start.proof", path)
	}
	return format, nil
}

// started is the JSON result of a start command.
type started struct {
	Commands    []string `json:"commands"`
	AppID       string   `json:"appid"`
	Application int64    `json:"application_id,omitempty"`
	Text        string   `json:"text"` // The text that the proof encodes.
	Proof       string   `json:"proof"`
	Job         string   `json:"job,omitempty"` // The job file for qrjump label.
}

type startCodes struct {
	starting
	AppID       string `arg:"" optional:"" name:"appid"`
	Target      string `placeholder:"APPID"`
	Path        string `placeholder:"PAGE"`
	Brand       string `placeholder:"NAME"`
	Title       string `placeholder:"NAME"`
	ProductCode string `placeholder:"EAN"`
	Activity    string `default:"first" placeholder:"NAME"`
	Count       int64  `default:"10000" placeholder:"N"`
	ISV         string `name:"isv" default:"first" placeholder:"ID"`
	KeyFile     string `placeholder:"FILE" file:"in" absent:""`
	SecretFile  string `placeholder:"FILE" file:"in" absent:""`
	Job         string `placeholder:"FILE" file:"out"`
	Proof       string `default:"proof.svg" placeholder:"FILE" file:"out"`
}

// Run creates everything that a new server needs before the first codes can be printed.
func (c *startCodes) Run(s *session, qrjump *client.Client) error {
	format, err := pictureOf(c.Proof)
	if err != nil {
		return err
	}
	if c.Count < codes.CountStep || c.Count%codes.CountStep != 0 {
		return misused("start.count", c.Count, codes.CountStep)
	}
	if err = c.questions(s, qrjump); err == nil {
		c.KeyFile, c.SecretFile = cmp.Or(c.KeyFile, c.AppID+".key"), cmp.Or(c.SecretFile, c.AppID+".secret")
		err = c.ready(s, qrjump)
	}
	if err != nil {
		return err
	}
	order, err := c.order(s, qrjump)
	if err != nil {
		return err
	}
	id := strconv.FormatInt(order.ApplicationID, 10)
	if order.Active == 0 {
		if err := c.do(s, true, "", "batch", "schedule", id, "0-"+strconv.FormatInt(c.Count-1, 10), "--at", "now", "--activity", c.Activity,
			"--brand", c.Brand, "--title", c.Title, "--product-code", c.ProductCode, "--target", c.Target, "--path", c.Path); err != nil {
			return err
		}
	}
	code, err := qrjump.Codes.Get(s.ctx, client.CodeName{ID: order.ApplicationID})
	if err != nil {
		return aboutStored(s, qrjump, "show", order.ApplicationID, err)
	}
	if to := code.Activation; order.Active != 0 &&
		(to == nil || to.Binding == nil || to.Binding.WxaAppID != c.Target || to.Binding.WxaPath != c.Path) {
		return fault("start.opens", id, plain(c.Path), plain(c.Target), id)
	}
	if err := c.do(s, false, "", "symbol", code.CodeURL, "--format", format, "--out", c.Proof); err != nil {
		return err
	}
	c.Job = cmp.Or(c.Job, "labels-"+id+".yaml")
	job, err := startedJob(order.ApplicationID)
	if err == nil {
		err = c.keep(s, "start.job", c.Job, job, id)
	}
	if err != nil {
		return err
	}
	// If the files do not exist, the account already had a key and a secret, and only its owner has them.
	key, stdin := orPlaceholder(c.KeyFile, "KEYFILE"), orPlaceholder(c.SecretFile, "SECRETFILE")
	next := c.line(false, "label", c.Job, "--appid", c.AppID, "--secret", "-", "--key-file", key) + " < " + shellWord(stdin)
	if key == "KEYFILE" || stdin == "SECRETFILE" {
		next += tr("start.placeholders", plain(c.AppID))
	}
	return c.outcome(s, started{c.ran, c.AppID, order.ApplicationID, code.CodeURL, c.Proof, c.Job}, nil, "start.codes",
		countedCodes(c.Count), id, plain(c.Path), plain(c.Target), plain(c.Proof), next)
}

// orPlaceholder returns the name of an existing file, else a placeholder word.
func orPlaceholder(file, word string) string {
	if _, err := os.Stat(file); err != nil {
		return word
	}
	return file
}

// startedJob returns a job file that prints all codes of an application and, in a separate file, three proofs.
func startedJob(application int64) (string, error) {
	text, err := yaml.Marshal(yaml.MapSlice{{Key: "batch", Value: application}, {Key: "range", Value: "all"},
		{Key: "out", Value: fmt.Sprintf("labels-%d.pdf", application)}, {Key: "sheet", Value: "a4-40"},
		{Key: "line", Value: []string{"{serial}"}}, {Key: "proofs", Value: 3}})
	return strings.TrimSpace(string(text)), err
}

func (c *startCodes) questions(s *session, qrjump *client.Client) error {
	list, err := qrjump.Accounts.List(s.ctx, "", 1000)
	if err != nil {
		return failed("list", "accounts", err)
	}
	if err := prompt(s, promptedFlag{&c.AppID, "APPID", "appid", onlyAccount(list, "service_account")}); err != nil {
		return err
	}
	linked, brand := "", c.AppID
	if i := slices.IndexFunc(list, func(a client.Account) bool { return a.AppID == c.AppID }); i >= 0 {
		brand = cmp.Or(list[i].Name, brand)
		if len(list[i].Linked) == 1 {
			linked = list[i].Linked[0]
		}
	}
	return prompt(s, promptedFlag{&c.Target, "--target", "target", cmp.Or(linked, onlyAccount(list, "mini_program"))},
		promptedFlag{&c.Path, "--path", "path", "pages/index/index"}, promptedFlag{&c.Brand, "--brand", "brand", brand},
		promptedFlag{&c.Title, "--title", "title", ""}, promptedFlag{&c.ProductCode, "--product-code", "product_code", ""})
}

// released returns the words of a command that adds the release version to the versions of a Mini Program.
func released(appid string, versions []string) []string {
	words := []string{"account", "set", appid, "--version", "release"}
	for _, v := range versions {
		words = append(words, "--version", v)
	}
	return words
}

// ready prepares the two accounts: the account that orders codes, and the Mini Program that the codes open.
func (c *startCodes) ready(s *session, qrjump *client.Client) error {
	mini, missingNames, err := c.account(s, qrjump, accountPlan{appid: c.Target, kind: "mini_program", ability: "open",
		flags: []string{"--version", "release"}})
	if err == nil && slices.Contains(missingNames, "released") {
		err = c.do(s, true, "", released(c.Target, mini.Versions)...)
	}
	if err != nil {
		return err
	}
	maker, missingNames, err := c.account(s, qrjump, accountPlan{appid: c.AppID, kind: "service_account", ability: "codes",
		flags: []string{"--certified", "--feature", "+marketcode"}})
	if err != nil {
		return err
	}
	if slices.Contains(missingNames, "prefix") {
		return fault("start.prefix")
	}
	put, stdin := []string{"account", "set", c.AppID}, ""
	for _, names := range [][]string{{"certified", "--certified"}, {"feature", "--feature", "+marketcode"}} {
		if slices.Contains(missingNames, names[0]) {
			put = append(put, names[1:]...)
		}
	}
	if slices.Contains(missingNames, "key") {
		if err := c.keep(s, "start.key", c.KeyFile, rand.Text()[:16], c.AppID); err != nil {
			return err
		}
		put = append(put, "--package-key-file", c.KeyFile)
	}
	if slices.Contains(missingNames, "secret") {
		if err := c.keep(s, "start.wrote_secret", c.SecretFile, rand.Text(), c.AppID); err != nil {
			return err
		}
		put, stdin = append(put, "--secret", "-"), c.SecretFile
	}
	if len(put) > 3 {
		if err := c.do(s, true, stdin, put...); err != nil {
			return err
		}
	}
	if slices.Contains(maker.Linked, c.Target) {
		return nil
	}
	return c.do(s, true, "", "account", "set", c.AppID, "--linked", c.Target)
}

// order orders the codes and waits until they are produced.
func (c *startCodes) order(s *session, qrjump *client.Client) (item client.Order, err error) {
	for ordered := false; ; {
		list, err := qrjump.Orders.List(s.ctx, c.AppID, 0, 1000)
		if err != nil {
			return item, failed("list", "orders", err)
		}
		i := slices.IndexFunc(list.Orders, func(o client.Order) bool { return o.ISV == c.ISV })
		switch {
		case i >= 0 && list.Orders[i].State == "generated":
			return list.Orders[i], nil
		case i >= 0 && (list.Orders[i].State == "pending_approval" || list.Orders[i].State == "rejected"):
			return item, hintError{error: fault("start.order", orderState(list.Orders[i])), next: tr("start.again")}
		case !ordered:
			if err := c.do(s, true, "", "batch", "apply", strconv.FormatInt(c.Count, 10), "--appid", c.AppID,
				"--isv", c.ISV, "--for-approval"); err != nil {
				return item, err
			}
			ordered = true
			continue
		}
		if err := pause(s.ctx, 200*time.Millisecond); err != nil { // The server produces the codes in the background.
			return item, err
		}
	}
}

type startRules struct {
	starting
	AppID      string `arg:"" optional:"" name:"appid"`
	Prefix     string `placeholder:"PREFIX"`
	Path       string `placeholder:"PAGE"`
	SecretFile string `placeholder:"FILE" file:"in" absent:""`
	Proof      string `default:"proof.svg" placeholder:"FILE" file:"out"`
}

// Run creates everything that a new server needs for a first published rule.
func (c *startRules) Run(s *session, qrjump *client.Client) error {
	format, err := pictureOf(c.Proof)
	if err != nil {
		return err
	}
	list, err := qrjump.Accounts.List(s.ctx, "", 1000)
	if err != nil {
		return failed("list", "accounts", err)
	}
	err = prompt(s, promptedFlag{&c.AppID, "APPID", "target", onlyAccount(list, "mini_program")},
		promptedFlag{&c.Prefix, "--prefix", "prefix", ""}, promptedFlag{&c.Path, "--path", "path", "pages/index/index"})
	if err != nil {
		return err
	}
	if _, ok := rules.ParseLink(c.Prefix); !ok {
		return misused("rule.prefix_want_http_or_https", c.Prefix)
	}
	file := cmp.Or(c.SecretFile, c.AppID+".secret")
	if err := c.ready(s, qrjump, file); err != nil {
		return err
	}
	names := []string{"--appid", c.AppID, "--secret", "-"}
	storedRules, err := qrjump.Rules.List(s.ctx, client.StoredRuleQuery{Owner: c.AppID, Prefix: c.Prefix, Limit: 1})
	switch {
	case err != nil:
		return failed("show", c.Prefix, err)
	case len(storedRules) == 0:
		if err = c.do(s, false, file, append([]string{"rule", "file", "--prefix", c.Prefix}, names...)...); err == nil {
			if err = c.do(s, true, file, append([]string{"rule", "add", c.Prefix, c.Path, "--publish"}, names...)...); err != nil &&
				c.isTable() {
				printMsg(s.err, "start.file")
			}
		}
	case !storedRules[0].Published:
		err = c.do(s, true, file, append([]string{"rule", "publish", c.Prefix}, names...)...)
	}
	if err != nil {
		return err
	}
	if err := c.do(s, false, file, append([]string{"rule", "qr", c.Prefix, "--format", format, "--out", c.Proof},
		names...)...); err != nil {
		return err
	}
	return c.outcome(s, started{Commands: c.ran, AppID: c.AppID, Text: c.Prefix, Proof: c.Proof}, nil, "start.rules", plain(c.Prefix),
		plain(c.AppID), plain(c.Proof), c.line(false, append([]string{"rule", "add", "PREFIX", "PAGE", "--publish"},
			names...)...)+" < "+shellWord(file),
		c.line(true, "scan", "--explain", c.Prefix))
}

// ready prepares a Mini Program that can add rules and that its own rules can open. The account's secret is stored in a file.
func (c *startRules) ready(s *session, qrjump *client.Client, file string) error {
	_, err := qrjump.Accounts.Get(s.ctx, c.AppID)
	if isNotFound(err) {
		if err := c.keep(s, "start.wrote_secret", file, rand.Text(), c.AppID); err != nil {
			return err
		}
	}
	a, missingNames, err := c.account(s, qrjump, accountPlan{appid: c.AppID, kind: "mini_program", ability: "open",
		flags: []string{"--version", "release", "--secret", "-"}, secretFile: file})
	if err == nil && slices.Contains(missingNames, "released") {
		err = c.do(s, true, "", released(c.AppID, a.Versions)...)
	}
	if err == nil && slices.Contains(missingNames, "rules_enabled") {
		err = c.do(s, true, "", "account", "set", c.AppID, "--rules")
	}
	if err == nil && slices.Contains(missingNames, "secret") {
		if err = c.keep(s, "start.wrote_secret", file, rand.Text(), c.AppID); err == nil {
			err = c.do(s, true, file, "account", "set", c.AppID, "--secret", "-")
		}
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil { // The account existed before with a secret that this command does not know.
		return misused("start.secret", file, c.AppID)
	}
	return nil
}
