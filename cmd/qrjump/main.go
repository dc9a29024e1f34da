// Command qrjump runs the qrjump server and calls the APIs of a running server. The command itself only handles flags, messages and exit
// codes; the logic is in the server.
//
// The exit codes of the command are defined in exit.go.
package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/server"
)

// commands is the table of all commands, in the order of the help. The message catalogue contains the descriptions of the commands
// and of their flags (help.go).
type commands struct {
	Lang string `enum:"zh,en," default:"" env:"QRJUMP_LANG" placeholder:"zh|en"`

	Serve serveCommand `cmd:"" group:"run"`
	Run   runCommand   `cmd:"" group:"run"`

	Start struct {
		Codes startCodes `cmd:""`
		Rules startRules `cmd:""`
	} `cmd:"" group:"run"`

	Doctor doctorCommand `cmd:"" group:"run"`
	Health healthCommand `cmd:"" group:"run"`

	Cells cellsCommand `cmd:"" group:"run"`

	MasterKey struct {
		Rotate masterKeyRotate `cmd:""`
	} `cmd:"" group:"run"`

	Rule struct {
		List    ruleList    `cmd:""`
		Add     ruleAdd     `cmd:""`
		Edit    ruleEdit    `cmd:""`
		Publish rulePublish `cmd:""`
		Delete  ruleDelete  `cmd:""`
		QR      ruleQR      `cmd:"" name:"qr"`
		File    ruleFile    `cmd:""`
		Replay  ruleReplay  `cmd:""`
		Plan    rulePlan    `cmd:""`
		Apply   ruleApply   `cmd:""`

		Pull rulePull `cmd:""`
		Lint ruleLint `cmd:""`

		History     ruleHistory     `cmd:"" group:"all-rules"`
		Conflicts   ruleConflicts   `cmd:"" group:"all-rules"`
		Export      ruleExport      `cmd:"" group:"all-rules"`
		Import      ruleImport      `cmd:"" group:"all-rules"`
		ForceDelete ruleForceDelete `cmd:"" group:"all-rules"`
	} `cmd:"" group:"rules"`

	Symbol struct {
		Draw      symbolCommand   `cmd:"" default:"withargs"`
		Recommend symbolRecommend `cmd:""`
	} `cmd:"" group:"codes"`

	Label labelCommand `cmd:"" group:"codes"`

	Grade gradeCommand `cmd:"" group:"codes"`

	Batch struct {
		Apply     batchApply     `cmd:"" group:"codes"`
		Show      batchShow      `cmd:"" group:"codes"`
		ListCodes batchListCodes `kong:"cmd,group=codes,set='enum=csv,ndjson,text,lines',set='format=csv',set='env=QRJUMP_LIST_OUTPUT'"`
		Download  batchDownload  `cmd:"" group:"codes"`
		Activate  batchActivate  `cmd:"" group:"codes"`

		List       batchList     `cmd:""`
		Orders     batchOrders   `cmd:""`
		Approve    orderDecision `cmd:""`
		Reject     orderDecision `cmd:""`
		Schedule   batchSchedule `cmd:""`
		Serials    batchSerials  `cmd:""`
		Alarm      batchAlarm    `cmd:""`
		Import     batchImport   `cmd:""`
		Deactivate codeEnd       `cmd:""`
		Retarget   batchRetarget `cmd:""`
	} `cmd:"" group:"all-codes"`

	Code struct {
		Exchange codeExchange `cmd:"" group:"codes"`

		Show     codeShow   `cmd:""`
		Log      codeLog    `cmd:""`
		Freeze   codeEnd    `cmd:""`
		Unfreeze codeChange `cmd:""`
		Redeem   codeChange `cmd:""`
		Void     codeEnd    `cmd:""`
	} `cmd:"" group:"all-codes"`

	Package struct {
		Make   packageCreate `cmd:""`
		Send   packageSend   `cmd:""`
		List   packageList   `cmd:""`
		Recall packageRecall `cmd:""`
		Spoil  packageSpoil  `cmd:""`
		Signer packageSigner `cmd:""`

		Open   packageOpen   `cmd:"" group:"printer"`
		Verify packageVerify `cmd:"" group:"printer"`
		Check  packageCheck  `cmd:"" group:"printer"`
	} `cmd:"" group:"packages"`

	Scan scanCommand `cmd:"" group:"scan"`

	Search searchCommand `cmd:"" group:"why"`

	Why whyCommand `cmd:"" group:"why"`

	Calls callsCommand `cmd:"" group:"why"`

	Clock struct {
		Show clockShow `cmd:""`
		Set  clockSet  `cmd:""`
	} `cmd:"" group:"emulator"`

	Fault struct {
		List  faultList  `cmd:""`
		Add   faultAdd   `cmd:""`
		Clear faultClear `cmd:""`
	} `cmd:"" group:"emulator"`

	Reset resetCommand `cmd:"" group:"emulator"`

	Seed seedCommand `cmd:"" group:"emulator"`

	Snapshot struct {
		Save snapshotSave `cmd:""`
		Load snapshotLoad `cmd:""`
	} `cmd:"" group:"emulator"`

	Deviations deviationsCommand `cmd:"" group:"why"`

	Cassette struct {
		Record  recordCommand  `cmd:""`
		Compare compareCommand `cmd:""`
		Replay  replayCommand  `cmd:""`
	} `cmd:"" group:"cassettes"`
	Probe probeCommand `cmd:"" group:"cassettes"`

	Scans scansCommand `cmd:"" group:"scanned" set:"direct=yes"`
	Stats struct {
		Show      statsShow      `cmd:"" default:"withargs" set:"direct=yes"`
		Unmatched statsUnmatched `cmd:""`
		Alarms    statsAlarms    `cmd:""`
	} `cmd:"" group:"scanned"`

	Account struct {
		List   accountList   `cmd:""`
		Show   accountShow   `cmd:""`
		Set    accountSet    `cmd:""`
		Delete accountDelete `cmd:""`
		Token  accountToken  `cmd:""`

		Appearance accountAppearance `cmd:""`

		Export accountExport `cmd:""`
		Import accountImport `cmd:""`
	} `cmd:"" group:"accounts"`

	Setting struct {
		List settingList `cmd:""`
		Set  settingSet  `cmd:""`
	} `cmd:"" group:"server"`

	API apiCommand `cmd:"" name:"api" group:"server"`

	ScanKey struct {
		List   scanKeyList   `cmd:""`
		Add    scanKeyAdd    `cmd:""`
		Delete scanKeyDelete `cmd:""`
	} `cmd:"" group:"server"`

	GS1 struct {
		List     gs1List     `cmd:""`
		Set      gs1Set      `cmd:""`
		Delete   gs1Delete   `cmd:""`
		Transfer gs1Transfer `cmd:""`
		Plan     gs1Plan     `cmd:""`
		Apply    gs1Apply    `cmd:""`
		Export   gs1Export   `cmd:""`
	} `cmd:"" name:"gs1" group:"rules"`

	Webhook struct {
		List       webhookList       `cmd:""`
		Add        webhookAdd        `cmd:""`
		Update     webhookUpdate     `cmd:""`
		Delete     webhookDelete     `cmd:""`
		Test       webhookTest       `cmd:""`
		Deliveries webhookDeliveries `cmd:""`
	} `cmd:"" group:"webhooks"`

	Listen listenCommand `cmd:"" group:"webhooks"`

	Person struct {
		List   personList   `cmd:""`
		Add    personAdd    `cmd:""`
		Update personUpdate `cmd:""`
		Delete personDelete `cmd:""`
	} `cmd:"" group:"people"`

	AdminKey struct {
		List   adminKeyList   `cmd:""`
		Add    adminKeyAdd    `cmd:""`
		Delete adminKeyDelete `cmd:""`
	} `cmd:"" group:"people"`

	LoginLink loginLink `cmd:"" group:"people"`

	Component struct {
		List    componentList    `cmd:""`
		Show    componentShow    `cmd:""`
		Set     componentSet     `cmd:""`
		Delete  componentDelete  `cmd:""`
		Revoke  componentRevoke  `cmd:""`
		Consent componentConsent `cmd:"" group:"emulator"`
	} `cmd:"" group:"platforms"`

	Verification struct {
		List  verificationList     `cmd:""`
		Run   verificationRun      `cmd:""`
		Check verificationCheckURL `cmd:""`
	} `cmd:"" group:"files"`

	Behaviour struct {
		List behaviourList `cmd:""`
	} `cmd:"" group:"why"`

	Audit struct {
		List auditList `cmd:""`
		Undo auditUndo `cmd:""`
	} `cmd:"" group:"audit"`

	Export       exportCommand `cmd:"" group:"backup"`
	RestoreDrill restoreDrill  `cmd:"" group:"backup"`
	Import       importCommand `cmd:"" group:"backup"`

	Context struct {
		List   contextList   `cmd:""`
		Set    contextSet    `cmd:""`
		Delete contextDelete `cmd:""`
	} `cmd:"" group:"contexts"`

	Version versionCommand `cmd:"" group:"about"`
	Help    helpCommand    `cmd:"" group:"about"`

	Completion completionCommand `cmd:"" group:"about"`

	Complete completeCommand `cmd:"" name:"__complete" hidden:""`
}

// session is the environment of a running command.
type session struct {
	ctx context.Context
	in  io.Reader
	out io.Writer
	err io.Writer
	reader
	allFlags bool // the help of a command explains common flags too
	// named is the resolver for the context that the command uses.
	named *contextResolver
	// testHooks holds test hooks for a server that the command runs; outside tests there are none.
	testHooks server.TestHooks
}

// usageError is an error in the command line, with exit code 2.
type usageError string

func (m usageError) Error() string { return string(m) }

func main() { program(server.TestHooks{}) }

// program parses the process's arguments and runs the command.
func program(testHooks server.TestHooks) {
	ctx := untilSignal()
	// An empty variable counts as unset, because container files often pass empty variables.
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); value == "" && strings.HasPrefix(name, "QRJUMP_") {
			os.Unsetenv(name)
		}
	}
	// QRJUMP_LANG may also have the form of LANG, such as zh_CN.UTF-8.
	if language, known := i18n.Parse(strings.ReplaceAll(os.Getenv("QRJUMP_LANG"), "_", "-")); known {
		os.Setenv("QRJUMP_LANG", map[i18n.Language]string{i18n.English: "en", i18n.Chinese: "zh"}[language])
	}
	os.Exit(run(session{ctx: ctx, in: standardInput{ctx, os.Stdin}, out: os.Stdout, err: os.Stderr, testHooks: testHooks}, os.Args[1:]))
}

// detailedExitCode matches the argument that enables the exit codes of plan.
var detailedExitCode = regexp.MustCompile(`(?i)^--detailed-exitcode(=(true|1|yes))?$`)

// run executes the command that the arguments name and returns the exit code.
func run(s session, args []string) int {
	s.reader = readerOf(args)
	if wantsJSON(nil, args) {
		s.reader = "en" // Errors for programs are always in English.
	}
	outputLanguage = s.reader
	if args = withoutLanguage(args); len(args) == 0 {
		if isTerminal(s.out) {
			_, err := printMsg(s.out, "start.first")
			return exitOf(err)
		}
		args = []string{"help"}
	}
	out := &errWriter{to: s.out}
	s.out = out
	if args[0] == "--version" {
		args = []string{"version"}
	}
	s.named = &contextResolver{}
	parser, err := newParser(s, tableFor(args))
	if err != nil {
		panic(err) // Only an invalid struct tag in the table of commands causes this error.
	}
	args = verbFirst(parser.Model, args)
	chosen, err := parser.Parse(args)
	asJSON := wantsJSON(chosen, args)
	if asJSON {
		s.reader, outputLanguage = "en", "en"
	}
	shaped := &converter{to: out}
	zone = time.Local
	if err == nil {
		if caller, ok := chosen.Selected().Target.Addr().Interface().(interface{ shape() *outputFlags }); ok {
			flags := caller.shape()
			zone = flags.zone()
			flags.direct = cmp.Or(chosen.Selected().Tag.Vars["direct"], chosen.Selected().Tag.Vars["enum"]) != ""
			withoutHeads, shaped.form = flags.NoHeaders, flags.Output
			if flags.direct && flags.Output == "csv" {
				shaped.form = ""
			}
			lister, is := caller.(interface{ lists() bool })
			shaped.list = chosen.Selected().Name == "list" || is && lister.lists()
			asJSON = asJSON || flags.Output == "json"
			if shaped.isRenderer() {
				s.out, s.reader, outputLanguage = shaped, "en", "en"
			}
		}
		var done func(error) error
		if err = checkNames(chosen); err == nil {
			done, err = s.configFlags(chosen.Selected())
		}
		if err == nil {
			if err = done(chosen.Run(&s)); err == nil && shaped.isRenderer() {
				err = shaped.end()
			}
		}
		if caller, ok := chosen.Selected().Target.Addr().Interface().(interface{ mistaken(*session, error) error }); ok && err != nil {
			err = caller.mistaken(&s, err)
		}
	} else {
		err = withHelpHint(err)
	}
	if err == nil && out.err != nil {
		err = fault("main.the_output_is_not_whole", out.err)
	}
	if err != nil {
		err = s.named.explain(err)
	}
	if stopped, is := errors.AsType[signalError](context.Cause(s.ctx)); is && err != nil && !errors.Is(err, errReported) {
		err = stopped.during(chosen, err)
	}
	if err != nil {
		printError(s, err, asJSON)
	}
	code := exitOf(err)
	if code == exitMisused && !errors.Is(err, errReported) && slices.ContainsFunc(args, detailedExitCode.MatchString) {
		return exitFailed // not exit code 2: with --detailed-exitcode, 2 means that there are changes to apply
	}
	return code
}

// withoutLanguage returns the arguments, or nil if the arguments only select a language.
func withoutLanguage(args []string) []string {
	switch strings.Join(args, "=") {
	case "--lang=zh", "--lang=en":
		return nil
	}
	return args
}

// withHelpHint adds the matching help command to an error in the command line.
func withHelpHint(err error) error {
	see := "qrjump help"
	if c, ok := errors.AsType[exitError](err); ok {
		return c // of a context
	}
	if p, ok := errors.AsType[*kong.ParseError](err); ok {
		if node := p.Context.Selected(); node != nil {
			see = strings.TrimSpace(see + " " + node.Path())
		}
	}
	english := strings.NewReplacer(`expected string value but got "EOL" (<EOL>)`, tr("parse.give_value"),
		`must be one of "",`, "must be one of ", `,"" but got`, " but got").Replace(err.Error())
	says := inParsing(errors.New(english))
	if found := oneOf.FindStringSubmatch(english); found != nil {
		says += didYouMean(found[2], strings.Split(strings.ReplaceAll(found[1], `"`, ""), ",")...)
	}
	if number := strings.TrimPrefix(english, "unknown flag -"); number != english && number != "" && number[0] >= '0' && number[0] <= '9' {
		value, _, _ := strings.Cut(number, ",")
		says = tr("main.is_read_as_a_flag", value)
	}
	return misused("main.see", says, see)
}

// usualOutput holds the properties of --output; a command with different formats overrides them in its tag.
var usualOutput = kong.Vars{"enum": "table,json,yaml,csv", "format": "table", "env": "QRJUMP_OUTPUT"}

// newParser returns a parser that parses arguments into a table of commands.
func newParser(s session, table any) (*kong.Kong, error) {
	named := cmp.Or(s.named, &contextResolver{})
	return kong.New(table, kong.Name("qrjump"), kong.Writers(s.out, s.err), kong.Help(s.printHelp), kong.Resolvers(named),
		usualOutput,
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(readSpan)), kong.NamedMapper("strict", strictness{}))
}

// fullManual returns all commands with their flags and help texts in the reader's language.
func (s *session) fullManual() manual {
	parser, err := newParser(*s, &commands{})
	if err != nil {
		panic(err) // Only an invalid struct tag in the table of commands causes this error.
	}
	return s.manual(parser.Model)
}
