// Command qrjump runs the server and talks to one. It knows flags, texts for
// people and exit codes; what happens is decided behind the APIs it calls.
//
// Its exit codes are those of exit.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/server"
)

// commands is every verb, in the order of the help.
type commands struct {
	Serve serveCommand `cmd:"" group:"Run a server" help:"Run the server; with no flag at all it works." example:"qrjump serve --dev"`

	Doctor doctorCommand `cmd:"" group:"Run a server" help:"Look at a server, or at the folder of a stopped one: what is wrong, and what to do; exit 1 where something is." example:"qrjump doctor --data ./qrjump-data --backups /var/backups/qrjump"`
	Health healthCommand `cmd:"" group:"Run a server" help:"Say whether a server is ready; exit 0 only then." example:"qrjump health --data ./qrjump-data"`

	MasterKey struct {
		Turn masterKeyTurn `cmd:"" group:"Run a server" help:"Replace the master key of a stopped server; tokens, secrets and codes stay." example:"qrjump master-key turn --data ./qrjump-data"`
	} `cmd:"" help:"The key that everything secret is sealed by."`

	Rule struct {
		List    ruleList    `cmd:"" group:"Jump rules of one account" help:"List the account's rules." example:"qrjump rule list --appid wxminiprogram0001"`
		Add     ruleAdd     `cmd:"" group:"Jump rules of one account" help:"Add a rule: links under PREFIX open PAGE." example:"qrjump rule add https://coffee.example/t/ pages/table/table --publish"`
		Edit    ruleEdit    `cmd:"" group:"Jump rules of one account" help:"Change a rule; what is not named stays." example:"qrjump rule edit https://coffee.example/t/ --occupy"`
		Publish rulePublish `cmd:"" group:"Jump rules of one account" help:"Make a rule live for everybody." example:"qrjump rule publish https://coffee.example/t/"`
		Delete  ruleDelete  `cmd:"" group:"Jump rules of one account" help:"Delete a rule at once." example:"qrjump rule delete https://coffee.example/t/"`
		QR      ruleQR      `cmd:"" name:"qr" group:"Jump rules of one account" help:"Draw the QR code of a link, if a rule opens it." example:"qrjump rule qr https://coffee.example/t/7 --out table-7.svg"`
		File    ruleFile    `cmd:"" group:"Jump rules of one account" help:"Show the verification file, and where it must be." example:"qrjump rule file --prefix https://coffee.example/t/"`
		Replay  ruleReplay  `cmd:"" group:"Jump rules of one account" help:"Say what the scans of the last days would have opened under such a file (operator)." example:"qrjump rule replay rules.yaml --days 30"`
		Plan    rulePlan    `cmd:"" group:"Jump rules of one account" help:"Show what apply would do." example:"qrjump rule plan rules.yaml"`
		Apply   ruleApply   `cmd:"" group:"Jump rules of one account" help:"Make the account's rules what a file says." example:"qrjump rule apply rules.yaml --prune"`

		Pull rulePull `cmd:"" group:"Jump rules of one account" help:"Print the account's rules as rule plan reads them; from the real platform too." example:"qrjump rule pull > rules.yaml"`
		Lint ruleLint `cmd:"" group:"Jump rules of one account" help:"Find what rules do and their author hardly meant; exit 6 where there is something." example:"qrjump rule lint rules.yaml"`

		History   ruleHistory   `cmd:"" group:"Jump rules of all accounts (operator)" help:"Show what happened to a prefix." example:"qrjump rule history https://coffee.example/t/"`
		Undo      ruleUndo      `cmd:"" group:"Jump rules of all accounts (operator)" help:"Restore what was before a change, where nothing came after it." example:"qrjump rule undo 17"`
		Occupiers ruleOccupiers `cmd:"" group:"Jump rules of all accounts (operator)" help:"Show whose rules forbid a prefix to others." example:"qrjump rule occupiers https://coffee.example/t/7"`
		Find      ruleFind      `cmd:"" group:"Jump rules of all accounts (operator)" help:"List rules of all accounts, or of one, with their ids." example:"qrjump rule find --target wxminiprogram0001"`
		Export    ruleExport    `cmd:"" group:"Jump rules of all accounts (operator)" help:"Write all rules, a JSON object a line." example:"qrjump rule export rules.ndjson"`
		Import    ruleImport    `cmd:"" group:"Jump rules of all accounts (operator)" help:"Load rules from such a file: all of them or, naming the wrong lines, none." example:"qrjump rule import rules.ndjson --dry-run"`
		Release   ruleRelease   `cmd:"" group:"Jump rules of all accounts (operator)" help:"Take a prefix away from its owner, when a domain changed hands." example:"qrjump rule release https://coffee.example/ --below --reason 'the domain was sold' --yes"`
	} `cmd:"" help:"Jump rules: what a link opens."`

	Symbol symbolCommand `cmd:"" group:"Codes of one account" help:"Draw the symbol of a text, or of a code, at a size that a printer holds." example:"qrjump symbol https://coffee.example/t/7 --format png --dpi 600 --out table-7.png"`

	Batch struct {
		Apply     batchApply     `cmd:"" group:"Codes of one account" help:"Apply for codes, one for each item." example:"qrjump batch apply 10000 --isv order-1"`
		Show      batchShow      `cmd:"" group:"Codes of one account" help:"Say how far an application is, and its segments." example:"qrjump batch show --isv order-1"`
		Sheet     batchSheet     `cmd:"" group:"Codes of one account" help:"Write pages of labels as PDF, in memory that does not grow with them." example:"qrjump batch sheet 500000001 0-9999 --out labels.pdf --key-file key.txt --line '{serial}'"`
		Pictures  batchPictures  `cmd:"" group:"Codes of one account" help:"Write a label for each code: a ZIP of pictures, or a stream for a label printer." example:"qrjump batch pictures 500000001 0-9999 --format zpl --dpi 203 --out labels.zpl --key-file key.txt"`
		ListCodes batchListCodes `cmd:"" group:"Codes of one account" help:"List codes for a printer's own program." example:"qrjump batch list-codes 500000001 0-9999 --format csv --out codes.csv --key-file key.txt"`
		Download  batchDownload  `cmd:"" group:"Codes of one account" help:"Download the codes for the printer." example:"qrjump batch download 500000001 --out codes.txt --plain --key-file key.txt"`
		Activate  batchActivate  `cmd:"" group:"Codes of one account" help:"Make a range of codes open a page." example:"qrjump batch activate 500000001 0-4999 --activity Spring --brand Coffee --title Beans --product-code 6901234567892 --target wxminiprogram0001 --path pages/item/item"`

		List     batchList     `cmd:"" group:"Codes of all accounts (operator)" help:"List all applications." example:"qrjump batch list"`
		Events   batchEvents   `cmd:"" group:"Codes of all accounts (operator)" help:"List what happened to the codes of an application, and what is scheduled." example:"qrjump batch events 500000001"`
		Schedule batchSchedule `cmd:"" group:"Codes of all accounts (operator)" help:"Make a range of codes open a page from a time on." example:"qrjump batch schedule 500000001 0-4999 --at 2030-01-31T00:00:00Z --activity Spring --brand Coffee --title Beans --product-code 6901234567892 --target wxminiprogram0001 --path pages/item/item"`
		Serials  batchSerials  `cmd:"" group:"Codes of all accounts (operator)" help:"Give codes the brand's own serial numbers, from a CSV." example:"qrjump batch serials 500000001 serials.csv"`
		Alarm    batchAlarm    `cmd:"" group:"Codes of all accounts (operator)" help:"Show or choose from which score on codes are alarmed, or replay the last 90 days." example:"qrjump batch alarm 500000001 --replay 150"`
		Import   batchImport   `cmd:"" group:"Codes of all accounts (operator)" help:"Bring codes that were made elsewhere, from files of the wire's four columns." example:"qrjump batch import codes.txt --account wxserviceacct0001 --isv old-order-1"`
		TakeBack batchTakeBack `cmd:"" group:"Codes of all accounts (operator)" help:"Take back codes that were imported by mistake, as long as nothing was done with them." example:"qrjump batch take-back 500000001 all"`
		Withdraw batchWithdraw `cmd:"" group:"Codes of all accounts (operator)" help:"Make codes not active any more." example:"qrjump batch withdraw 500000001 100-199"`
		Retarget batchRetarget `cmd:"" group:"Codes of all accounts (operator)" help:"Open another page for what is active in a range." example:"qrjump batch retarget 500000001 0-4999 --target wxminiprogram0001 --path pages/new/new"`
	} `cmd:"" help:"One item, one code: applications for codes."`

	Code struct {
		Trade codeTrade `cmd:"" group:"Codes of one account" help:"Trade the ticket of a scan for the code." example:"qrjump code trade TICKET --openid OPENID"`

		Show     codeShow     `cmd:"" group:"Codes of all accounts (operator)" help:"Show a code and what happened to it; to its own account, what it is bound to." example:"qrjump code show 500000001:0"`
		Scans    codeScans    `cmd:"" group:"Codes of all accounts (operator)" help:"Say what is known of the scans of a code." example:"qrjump code scans 500000001:0"`
		Freeze   codeFreeze   `cmd:"" group:"Codes of all accounts (operator)" help:"Let codes open nothing for now." example:"qrjump code freeze 500000001 5 100-199 --note 'lost in transport'"`
		Unfreeze codeUnfreeze `cmd:"" group:"Codes of all accounts (operator)" help:"Let frozen codes open again." example:"qrjump code unfreeze 500000001 all"`
		Redeem   codeRedeem   `cmd:"" group:"Codes of all accounts (operator)" help:"Redeem codes; a single one only once." example:"qrjump code redeem 500000001 5 --actor till-3"`
		Void     codeVoid     `cmd:"" group:"Codes of all accounts (operator)" help:"Let codes open nothing for ever." example:"qrjump code void 500000001 --codes-file stolen.txt --yes"`
	} `cmd:"" help:"One item, one code: single codes."`

	Package struct {
		Make   packageMake   `cmd:"" group:"Printers' packages (operator)" help:"Hand codes to a printer: one file, encrypted to the printer and signed." example:"qrjump package make 500000001 0-4999 --for printer.pub --proofs 20"`
		Send   packageSend   `cmd:"" group:"Printers' packages (operator)" help:"Write the file of a package again." example:"qrjump package send 1 --out package.age"`
		List   packageList   `cmd:"" group:"Printers' packages (operator)" help:"List which codes are with which printer." example:"qrjump package list"`
		Recall packageRecall `cmd:"" group:"Printers' packages (operator)" help:"Freeze the codes of a package at once." example:"qrjump package recall 1 --note 'lost on the way' --yes"`
		Spoil  packageSpoil  `cmd:"" group:"Printers' packages (operator)" help:"Note that the printer destroyed codes: they are void for ever." example:"qrjump package spoil 1 5-9 --yes"`
		Signer packageSigner `cmd:"" group:"Printers' packages (operator)" help:"Print the key by which printers check packages." example:"qrjump package signer > signer.txt"`

		Open   packageOpen   `cmd:"" group:"Printers' packages (printer)" help:"Decrypt a package into a folder, and check all of it; no server is asked." example:"qrjump package open package-1.age --identity key.txt --signer signer.txt --out job"`
		Verify packageVerify `cmd:"" group:"Printers' packages (printer)" help:"Check a package, or the folder that one was opened in; no server is asked." example:"qrjump package verify job --signer signer.txt"`
		Check  packageCheck  `cmd:"" group:"Printers' packages (printer)" help:"Say what of a printing run is missing, double or foreign, from the log of its cameras; exit 6 where something is." example:"qrjump package check job camera.log"`
	} `cmd:"" help:"Which codes a printer gets, and what became of them."`

	Scan scanCommand `cmd:"" group:"Scans" help:"Say what a link opens, and why." example:"qrjump scan --explain https://coffee.example/t/7"`

	Why whyCommand `cmd:"" group:"Why (operator)" help:"Say why a call was answered so, and how sure that is." example:"qrjump why 614e959d-6ee66b1b-75f60c88"`

	Calls callsCommand `cmd:"" group:"Why (operator)" help:"List the last calls of the wire, or follow them as they come." example:"qrjump calls --follow --failed"`

	Clock struct {
		Show    clockShow    `cmd:"" group:"Emulator (--dev, --emulator)" help:"Show the server's clock, and how far from real time it is." example:"qrjump clock show"`
		Set     clockSet     `cmd:"" group:"Emulator (--dev, --emulator)" help:"Set it to a later time, from which it runs on." example:"qrjump clock set 2030-01-31T15:04:05Z"`
		Advance clockAdvance `cmd:"" group:"Emulator (--dev, --emulator)" help:"Move it on." example:"qrjump clock advance 36h"`
		Freeze  clockFreeze  `cmd:"" group:"Emulator (--dev, --emulator)" help:"Stop it." example:"qrjump clock freeze"`
		Run     clockRun     `cmd:"" group:"Emulator (--dev, --emulator)" help:"Let it run on from where it stands." example:"qrjump clock run"`
		Real    clockReal    `cmd:"" group:"Emulator (--dev, --emulator)" help:"Let it follow real time again, unless it is ahead of it." example:"qrjump clock real"`
	} `cmd:"" help:"The emulator's clock: quotas, tokens and tickets follow it."`

	Fault struct {
		List  faultList  `cmd:"" group:"Emulator (--dev, --emulator)" help:"List the faults in force." example:"qrjump fault list"`
		Add   faultAdd   `cmd:"" group:"Emulator (--dev, --emulator)" help:"Make calls of an endpoint go wrong." example:"qrjump fault add /cgi-bin/wxopen/qrcodejumppublish --errcode=-1 --times 2"`
		Clear faultClear `cmd:"" group:"Emulator (--dev, --emulator)" help:"End all faults, or one." example:"qrjump fault clear"`
	} `cmd:"" help:"Calls that go wrong on purpose."`

	Stub struct {
		List  stubListCommand `cmd:"" group:"Emulator (--dev, --emulator)" help:"List the stubs in force, and how often each answered." example:"qrjump stub list"`
		Set   stubSet         `cmd:"" group:"Emulator (--dev, --emulator)" help:"Let the stubs of a file answer paths in place of the server." example:"qrjump stub set stubs.yaml"`
		Clear stubClear       `cmd:"" group:"Emulator (--dev, --emulator)" help:"End all stubs." example:"qrjump stub clear"`
	} `cmd:"" help:"Paths that a stub answers."`

	Reset resetCommand `cmd:"" group:"Emulator (--dev, --emulator)" help:"Go back to the seed and to real time; keys stay." example:"qrjump reset --yes"`

	Seed seedCommand `cmd:"" group:"Emulator (--dev, --emulator)" help:"Apply a seed over what there is, all of it or, naming the wrong line, nothing." example:"qrjump seed shop.yaml"`

	Deviations deviationsCommand `cmd:"" group:"Why (operator)" help:"List what callers did that this server let pass and the platform may mind, with what to change." example:"qrjump deviations --fail-on inferred"`

	Record  recordCommand  `cmd:"" group:"Cassettes" help:"Pass calls on to the platform, and record them with nothing secret." example:"qrjump record --upstream https://api.weixin.qq.com --out calls.ndjson"`
	Compare compareCommand `cmd:"" group:"Cassettes" help:"Say where a new server answers otherwise than the platform did; exit 6 where it does." example:"qrjump compare calls.ndjson"`
	Replay  replayCommand  `cmd:"" group:"Cassettes" help:"Answer calls from a cassette, without a network." example:"qrjump replay calls.ndjson --by-content"`

	Verify verifyCommand `cmd:"" group:"Scans" help:"Fetch a verification file as the platform does, and say step by step what is wrong." example:"qrjump verify https://coffee.example/t/"`

	Scans scansCommand `cmd:"" group:"What was scanned (operator)" help:"List scans, or follow them." example:"qrjump scans --follow"`
	Stats struct {
		Show   statsShow   `cmd:"" default:"withargs" group:"What was scanned (operator)" help:"Count scans by time and by what they have in common." example:"qrjump stats --by day --group activity"`
		Misses statsMisses `cmd:"" group:"What was scanned (operator)" help:"Show what was scanned and found nothing." example:"qrjump stats misses"`
		Alarms statsAlarms `cmd:"" group:"What was scanned (operator)" help:"Show codes that look as if they were copied, and spoiled ones that were scanned; or take an alarm back." example:"qrjump stats alarms --dismiss 3 --note 'a gift that went round'"`
		Verify statsVerify `cmd:"" group:"What was scanned (operator)" help:"Count the whole ledger again and compare." example:"qrjump stats verify"`
	} `cmd:"" help:"What was scanned, counted."`

	Account struct {
		List    accountList      `cmd:"" group:"Accounts (operator)" help:"List all accounts." example:"qrjump account list"`
		Show    accountShow      `cmd:"" group:"Accounts (operator)" help:"Show one account." example:"qrjump account show wxminiprogram0001"`
		Put     accountPut       `cmd:"" group:"Accounts (operator)" help:"Create an account, or change what is named of one." example:"qrjump account put wxminiprogram0001 --kind mini_program --secret - --certified"`
		Release accountRelease   `cmd:"" group:"Accounts (operator)" help:"Say which versions of a Mini Program exist." example:"qrjump account release wxminiprogram0001 release trial"`
		Member  accountMember    `cmd:"" group:"Accounts (operator)" help:"Give a user a role, or take it away." example:"qrjump account member wxminiprogram0001 alice developer"`
		Link    accountLink      `cmd:"" group:"Accounts (operator)" help:"Link a service account with a Mini Program." example:"qrjump account link wxserviceacct0001 wxminiprogram0001"`
		Jump    accountJump      `cmd:"" group:"Accounts (operator)" help:"Switch all rules of an account on or off." example:"qrjump account jump wxminiprogram0001 off"`
		Notices accountNotices   `cmd:"" group:"Accounts (operator)" help:"Show what an account was told that the operator did to it." example:"qrjump account notices wxminiprogram0001"`
		Revoke  accountEndTokens `cmd:"" group:"Accounts (operator)" help:"End all access tokens of an account, those of platforms that call for it too." example:"qrjump account revoke wxminiprogram0001"`
		Quota   accountQuota     `cmd:"" group:"Accounts (operator)" help:"Say how many publishes are left this month." example:"qrjump account quota wxminiprogram0001"`
		Links   accountLinks     `cmd:"" group:"Accounts (operator)" help:"List links of service accounts, and which of them wait for an answer." example:"qrjump account links --waiting"`

		Appearance accountAppearance `cmd:"" group:"Accounts (operator)" help:"Show or change how an account looks on the pages for buyers: logo, colour, link for help, texts." example:"qrjump account appearance wxminiprogram0001 --accent 0b6b45 --help-link https://coffee.example/help"`

		ConfirmLink    accountConfirmLink    `cmd:"" group:"Accounts (operator)" help:"Answer for an administrator whether a link, or its end, shall be." example:"qrjump account confirm-link wxserviceacct0001 wxminiprogram0001 --side mini_program"`
		Authorizations accountAuthorizations `cmd:"" group:"Accounts (operator)" help:"List which third-party platforms an account authorised." example:"qrjump account authorizations wxminiprogram0001"`

		Export accountExport `cmd:"" group:"Accounts (operator)" help:"Write all accounts without their secrets, a JSON object a line." example:"qrjump account export accounts.ndjson"`
		Import accountImport `cmd:"" group:"Accounts (operator)" help:"Load accounts from such a file: all of them or, naming the wrong lines, none." example:"qrjump account import accounts.ndjson"`
		OpenID accountOpenID `cmd:"" name:"openid" group:"Accounts (operator)" help:"Say by which openid an account knows a user." example:"qrjump account openid wxserviceacct0001 alice"`
	} `cmd:"" help:"Accounts: who has rules."`

	Setting struct {
		List  settingList  `cmd:"" group:"The server (operator)" help:"List all settings with their value, their default and what they mean." example:"qrjump setting list --changed"`
		Get   settingGet   `cmd:"" group:"The server (operator)" help:"Show one setting and all that is known of it." example:"qrjump setting get rate_limit"`
		Set   settingSet   `cmd:"" group:"The server (operator)" help:"Change a setting." example:"qrjump setting set rate_limit 20"`
		Reset settingReset `cmd:"" group:"The server (operator)" help:"Take back what was chosen of a setting: its default counts." example:"qrjump setting reset rate_limit"`
	} `cmd:"" help:"What an operator may choose while the server runs."`

	ScanKey struct {
		List   scanKeyList   `cmd:"" group:"The server (operator)" help:"List the keys of apps that scan, without the keys themselves." example:"qrjump scan-key list"`
		Add    scanKeyAdd    `cmd:"" group:"The server (operator)" help:"Make a key for an app that scans; it is shown this once." example:"qrjump scan-key add till --namespace shop"`
		Delete scanKeyDelete `cmd:"" group:"The server (operator)" help:"End a key at once." example:"qrjump scan-key delete till --yes"`
	} `cmd:"" help:"Keys of apps that scan."`

	Domain struct {
		List   domainList   `cmd:"" group:"The server (operator)" help:"List what was said of hosts." example:"qrjump domain list"`
		Set    domainSet    `cmd:"" group:"The server (operator)" help:"Trust a host, deny rules on it, or say that it has no ICP record." example:"qrjump domain set tea.example trusted"`
		Forget domainForget `cmd:"" group:"The server (operator)" help:"Say nothing of a host any more." example:"qrjump domain forget tea.example"`
	} `cmd:"" help:"Hosts that are trusted or denied."`

	Webhook struct {
		List       webhookList       `cmd:"" group:"Webhooks (operator)" help:"List who is told of scans and alarms." example:"qrjump webhook list"`
		Add        webhookAdd        `cmd:"" group:"Webhooks (operator)" help:"Tell a receiver of scans and alarms from now on." example:"qrjump webhook add https://crm.example/hook --codes 500000001 --alarms"`
		Change     webhookChange     `cmd:"" group:"Webhooks (operator)" help:"Change what a webhook is told, where it is, or whether it is on." example:"qrjump webhook change 1 --no-enabled"`
		Delete     webhookDelete     `cmd:"" group:"Webhooks (operator)" help:"Remove a webhook and what waits for it." example:"qrjump webhook delete 1 --yes"`
		Test       webhookTest       `cmd:"" group:"Webhooks (operator)" help:"Send a message that tells of nothing, and say what the receiver answered." example:"qrjump webhook test 1"`
		Deliveries webhookDeliveries `cmd:"" group:"Webhooks (operator)" help:"List what was sent and what became of it." example:"qrjump webhook deliveries --state dead"`
		Resend     webhookResend     `cmd:"" group:"Webhooks (operator)" help:"Send something again." example:"qrjump webhook resend 17"`
	} `cmd:"" help:"Receivers that are told of scans and alarms."`
	Person struct {
		List    personList    `cmd:"" group:"People and keys (operator)" help:"List who may sign in to the console." example:"qrjump person list"`
		Add     personAdd     `cmd:"" group:"People and keys (operator)" help:"Let somebody sign in; without a password by login links only." example:"qrjump person add alice --role rules --account wxminiprogram0001 --password -"`
		Change  personChange  `cmd:"" group:"People and keys (operator)" help:"Change what is named of a person, who is signed out by it." example:"qrjump person change alice --second-factor new"`
		SignOut personSignOut `cmd:"" group:"People and keys (operator)" help:"End all sessions of a person, who may sign in again." example:"qrjump person sign-out alice"`
		Delete  personDelete  `cmd:"" group:"People and keys (operator)" help:"Let a person sign in no more." example:"qrjump person delete alice --yes"`
	} `cmd:"" help:"People who may sign in to the console."`

	AdminKey struct {
		List   adminKeyList   `cmd:"" group:"People and keys (operator)" help:"List the keys of programs for the admin API, with their last use." example:"qrjump admin-key list"`
		Add    adminKeyAdd    `cmd:"" group:"People and keys (operator)" help:"Make a key for a program; it is shown this once." example:"qrjump admin-key add till --role marketer --days 90"`
		Delete adminKeyDelete `cmd:"" group:"People and keys (operator)" help:"End a key at once." example:"qrjump admin-key delete 0123456789abcdef --yes"`
	} `cmd:"" help:"Keys of programs for the admin API."`

	LoginLink loginLink `cmd:"" group:"People and keys (operator)" help:"Print a link that signs in to the console once, within ten minutes." example:"qrjump login-link alice"`

	Component struct {
		List      componentList      `cmd:"" group:"Third-party platforms (operator)" help:"List all third-party platforms." example:"qrjump component list"`
		Show      componentShow      `cmd:"" group:"Third-party platforms (operator)" help:"Show one, and which accounts authorised it." example:"qrjump component show wxcomponent0001"`
		Put       componentPut       `cmd:"" group:"Third-party platforms (operator)" help:"Create one, or change what is named of one." example:"qrjump component put wxcomponent0001 --secret - --redirect-host isv.example"`
		Pushes    componentPushes    `cmd:"" group:"Third-party platforms (operator)" help:"List what was sent to its event URL, and what was answered." example:"qrjump component pushes wxcomponent0001"`
		Withdraw  componentWithdraw  `cmd:"" group:"Third-party platforms (operator)" help:"Take back for an account what it granted a platform." example:"qrjump component withdraw wxcomponent0001 wxminiprogram0001 --yes"`
		Authorize componentAuthorize `cmd:"" group:"Emulator (--dev, --emulator)" help:"Agree for an account to what a platform asks." example:"qrjump component authorize wxcomponent0001 wxminiprogram0001 --pre-auth-code CODE"`
		Ticket    componentTicket    `cmd:"" group:"Emulator (--dev, --emulator)" help:"Make a verify ticket for a platform." example:"qrjump component ticket wxcomponent0001"`
	} `cmd:"" help:"Third-party platforms, which act for accounts."`

	Confirmation struct {
		List confirmationList `cmd:"" group:"Verification files (operator)" help:"List checks of verification files: which were found, and why not." example:"qrjump confirmation list --failed"`
		Show confirmationShow `cmd:"" group:"Verification files (operator)" help:"Say each step of one check." example:"qrjump confirmation show 614e959d-6ee66b1b-75f60c88"`
	} `cmd:"" help:"Checks of verification files when rules are added."`

	Recheck struct {
		List recheckList `cmd:"" group:"Verification files (operator)" help:"List the nightly looks at verification files." example:"qrjump recheck list --failing"`
		Now  recheckNow  `cmd:"" group:"Verification files (operator)" help:"Look at all verification files now." example:"qrjump recheck now"`
	} `cmd:"" help:"The nightly look at verification files."`

	ScanNode struct {
		List   scanNodeList   `cmd:"" group:"What was scanned (operator)" help:"List the nodes whose scans may not be in the ledger yet." example:"qrjump scan-node list"`
		Forget scanNodeForget `cmd:"" group:"What was scanned (operator)" help:"Wait no more for the scans of a node that never comes back." example:"qrjump scan-node forget 5f2c --yes"`
	} `cmd:"" help:"Nodes that bring scans to the ledger."`

	Lake struct {
		Verify lakeVerify `cmd:"" group:"What was scanned (operator)" help:"Compare the lake of --lake with the ledger, day by day." example:"qrjump lake verify --from 2026-01-01"`
	} `cmd:"" help:"Scans as Parquet files for other engines."`

	Behaviour struct {
		List behaviourList `cmd:"" group:"Why (operator)" help:"List what this server does where the platform might differ, and how sure that is." example:"qrjump behaviour list --mark choice"`
		Show behaviourShow `cmd:"" group:"Why (operator)" help:"Show one with its evidence." example:"qrjump behaviour show rules.confirm.vouched"`
	} `cmd:"" help:"What this server does where the platform might differ."`

	User struct {
		Erase userErase `cmd:"" group:"What was scanned (operator)" help:"Make every scan of a user anonymous, for ever." example:"qrjump user erase alice --yes"`
	} `cmd:"" help:"People who scan."`

	Audit struct {
		List   auditList   `cmd:"" group:"Audit log (operator)" help:"Show the latest changes: what, by whom, through which call." example:"qrjump audit list --kind account"`
		Verify auditVerify `cmd:"" group:"Audit log (operator)" help:"Prove that nobody altered the log of changes." example:"qrjump audit verify"`
	} `cmd:"" help:"The log of all changes."`

	Export exportCommand `cmd:"" group:"Backup (operator)" help:"Write everything on a running server to one file." example:"qrjump export qrjump-export.tar.gz --passphrase-file passphrase.txt"`
	Drill  drillCommand  `cmd:"" group:"Backup (operator)" help:"Restore such a file beside everything else, try it, and leave nothing behind." example:"qrjump drill qrjump-export.tar.gz --passphrase-file passphrase.txt"`
	Import importCommand `cmd:"" group:"Backup (operator)" help:"Fill a new, empty server from such a file." example:"qrjump import qrjump-export.tar.gz --data ./qrjump-data"`

	Context struct {
		List   contextList   `cmd:"" group:"Servers by name" help:"List the servers that have a name here." example:"qrjump context list"`
		Show   contextShow   `cmd:"" group:"Servers by name" help:"Show one: its addresses, its account and where its secrets are." example:"qrjump context show prod"`
		Set    contextSet    `cmd:"" group:"Servers by name" help:"Name a server, or change what is named of one." example:"qrjump context set prod --server https://qr.example --appid wxminiprogram0001 --secret env:PROD_SECRET"`
		Use    contextUse    `cmd:"" group:"Servers by name" help:"Choose the one that commands use from now on." example:"qrjump context use prod"`
		Delete contextDelete `cmd:"" group:"Servers by name" help:"Forget one." example:"qrjump context delete prod"`
	} `cmd:"" help:"Servers that have a name: where each is, who calls it and where its secrets are."`

	Version  versionCommand  `cmd:"" group:"About" help:"Say which qrjump this is." example:"qrjump version"`
	Licences licencesCommand `cmd:"" group:"About" help:"Print the licences of everything that is in the program." example:"qrjump licences"`
	Help     helpCommand     `cmd:"" group:"About" help:"Show the commands, or the flags of one." example:"qrjump help rule add"`

	Completion completionCommand `cmd:"" group:"About" help:"Print what makes a shell complete commands, flags and values." example:"source <(qrjump completion bash)"`
	Man        manCommand        `cmd:"" group:"About" help:"Write the man pages of all commands into a folder." example:"qrjump man ./man1"`

	Complete completeCommand `cmd:"" name:"__complete" hidden:""`
	Commands commandsCommand `cmd:"" name:"__commands" hidden:""`
}

// session is what a command works with.
type session struct {
	ctx context.Context
	in  io.Reader
	out io.Writer
	err io.Writer
	// seams are those of a server that the command runs; the program has none.
	seams server.Seams
}

// misuse is an error of the person who typed the command: exit 2.
type misuse string

func (m misuse) Error() string { return string(m) }

func misused(format string, args ...any) error { return misuse(fmt.Sprintf(format, args...)) }

func main() { program(server.Seams{}) }

// program does what the process was started for.
func program(seams server.Seams) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	// An empty variable says nothing: container files like to pass those on.
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); value == "" && strings.HasPrefix(name, "QRJUMP_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(run(session{ctx: ctx, in: os.Stdin, out: os.Stdout, err: os.Stderr, seams: seams}, os.Args[1:]))
}

// run does what the arguments say and returns the exit code.
func run(s session, args []string) int {
	if len(args) == 0 {
		args = []string{"help"}
	}
	out := &faithful{to: s.out}
	s.out = out
	if args[0] == "--version" {
		args = []string{"version"}
	}
	parser, err := newParser(s, tableFor(args))
	if err != nil {
		panic(err) // a fault of the struct above
	}
	args = verbFirst(parser.Model, args)
	chosen, err := parser.Parse(args)
	if err == nil {
		zone = chosenZone(chosen)
		var done func(error) error
		if done, err = s.standing(chosen.Selected()); err == nil {
			err = done(chosen.Run(&s))
		}
		if caller, ok := chosen.Selected().Target.Addr().Interface().(interface{ mistaken(*session, error) error }); ok && err != nil {
			err = caller.mistaken(&s, err)
		}
	} else {
		err = misparsed(err)
	}
	if err == nil && out.err != nil {
		err = fmt.Errorf("the output is not whole: %w", out.err)
	}
	if err != nil {
		complain(s, err, wantsJSON(chosen, args))
	}
	code := exitOf(err)
	if code == exitMisused && err != nil && !errors.Is(err, errSaid) && slices.Contains(args, "--detailed-exitcode") {
		return exitFailed // 2 says there that something is to be done
	}
	return code
}

// chosenZone is the zone in which the command prints times.
func chosenZone(chosen *kong.Context) *time.Location {
	for _, f := range chosen.Selected().Flags {
		if on, _ := chosen.FlagValue(f).(bool); on && f.Name == "utc" {
			return time.UTC
		}
	}
	return time.Local
}

// misparsed says which help would have told.
func misparsed(err error) error {
	see := "qrjump help"
	if c, ok := errors.AsType[coded](err); ok {
		return c // of a context
	}
	if p, ok := errors.AsType[*kong.ParseError](err); ok {
		if node := p.Context.Selected(); node != nil {
			see = strings.TrimSpace(see + " " + node.Path())
		}
	}
	says := strings.ReplaceAll(err.Error(), `expected string value but got "EOL" (<EOL>)`, "say its value")
	if number := strings.TrimPrefix(says, "unknown flag -"); number != says && number != "" && number[0] >= '0' && number[0] <= '9' {
		value, _, _ := strings.Cut(number, ",")
		says = fmt.Sprintf("-%s is read as a flag: write -- before a value that begins with a hyphen", value)
	}
	return misused("%s; see: %s", says, see)
}

// newParser reads arguments by a table of commands, which it fills.
func newParser(s session, table any) (*kong.Kong, error) {
	return kong.New(table, kong.Name("qrjump"), kong.Writers(s.out, s.err), kong.Help(printHelp), kong.Resolvers(&contextResolver{}),
		kong.Description("A self-hosted server for the Weixin QR-code jump rules, and its command line."))
}

// everything is every verb with its flags.
func (s *session) everything() *kong.Application {
	parser, err := newParser(*s, &commands{})
	if err != nil {
		panic(err) // a fault of the struct above
	}
	return parser.Model
}
