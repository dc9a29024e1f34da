package main

import (
	"bytes"
	"context"
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
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
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

// everyVerb is a story in which each verb of the command line appears.
var everyVerb = []verb{
	{path: "version", says: `^qrjump `},
	{path: "completion", words: "bash", says: `(?m)^complete -F _qrjump qrjump$`},
	{path: "help", words: "--man $OUT", says: `^wrote \d+ pages to `},
	{path: "__complete", words: "-- versi", says: `^version\tShow the version`},
	{path: "version", words: "--licences", says: `^qrjump itself is under the Apache License 2.0\.`},
	{path: "api", api: adminAPI, words: "getAccount appid=shop", says: `(?m)^kind +mini_program$`},
	{path: "serve", api: otherTest},
	{path: "run", api: otherTest},
	{path: "doctor", api: otherTest},
	{path: "cells", api: otherTest},
	{path: "health", says: `^http\S+ is ready$`},
	{path: "cassette record", api: otherTest},
	{path: "cassette replay", api: otherTest},
	{path: "cassette compare", words: "$CASSETTE", says: `^1 of 1 call compared: 0 differences$`},
	{path: "probe", api: otherTest},
	{path: "context list", api: otherTest},
	{path: "context set", api: otherTest},
	{path: "context delete", api: otherTest},

	{path: "account set", api: adminAPI, words: "shop1 --kind mini_program --secret the-secret-of-shop1 --certified --version release",
		says: `^created shop1$`},
	{path: "account set", api: adminAPI, words: "brand1 --kind service_account --secret the-secret-of-brand1 --certified",
		says: `^created brand1$`},
	{path: "account set", api: adminAPI, words: "shop1 --name Tea", says: `^changed shop1$`},
	{path: "account show", api: adminAPI, words: "shop1", says: `(?m)^name +Tea$`},
	{path: "account list", api: adminAPI, says: `(?m)^shop1 .* Tea$`},
	{path: "account list", api: adminAPI, words: "--output=json", says: `"appid": "shop1"`},
	{path: "account set", api: adminAPI, words: "shop1 --version release --version trial", says: `^changed shop1$`},
	{path: "account set", api: adminAPI, words: "shop1 --version release --output json --yes", says: `"shop1"`},
	{path: "account set", api: adminAPI, words: "shop1 --member alice=trial", says: `^changed shop1$`},
	{path: "account set", api: adminAPI, words: "shop1 --member alice= --yes", says: `^changed shop1$`},
	{path: "account set", api: adminAPI, words: "brand1 --linked shop1", says: `^changed brand1$`},
	{path: "api", api: adminAPI, words: "deleteLink appid=brand1 mini_program=shop1 --yes", says: `.`},
	{path: "account set", api: adminAPI, words: "shop1 --no-rules --yes", says: `^changed shop1$`, after: func(w *world) {
		a, err := w.operator.Accounts.Get(w.t.Context(), "shop1")
		assert.True(w.t, err == nil && !a.JumpOpen, "jumping was switched off, and is %v, %v", a.JumpOpen, err)
	}},
	{path: "account set", api: adminAPI, words: "shop1 --rules", says: `^changed shop1$`},
	{path: "account appearance", api: adminAPI, words: "shop1", says: `^appid +shop1\nopen at once +no$`},
	{path: "account appearance", api: adminAPI,
		words: "shop1 --accent 0B6B45 --help-link https://tea.example/help --landing-en hello --open-at-once",
		says:  `(?s)accent +#0b6b45 with text in #ffffff.*help +https://tea\.example/help.*open at once +yes.*landing en +hello`},
	{path: "api", api: adminAPI, words: "revokeTokens appid=shop1 --yes", says: `.`},
	{path: "account token", api: wireAPI, says: `^[\w-]{100,}$`},
	{path: "account show", api: adminAPI, words: "brand --user alice", says: `(?m)^openid +\S{28}$`, after: func(w *world) {
		w.found["OPENID"] = regexp.MustCompile(`(?m)^openid +(\S{28})$`).FindStringSubmatch(w.tr)[1]
	}},
	{path: "account export", api: adminAPI, words: "$OUT", says: `^exported all accounts to `},
	{path: "account export", api: adminAPI, words: "-", says: `(?m)^\{.*shop1`},
	{path: "account import", api: adminAPI, words: "-", in: `{"appid":"shop3","kind":"mini_program"}` + "\n",
		says: `^imported 1 account: 1 new`},

	{path: "verification check", api: otherTest},
	{path: "rule add", api: wireAPI, words: "https://tea.example/t/ pages/t/t", says: `^added https://tea\.example/t/`},
	{path: "rule add", api: wireAPI, words: "https://tea.example/u/ pages/t/t --publish", says: `^added and published`},
	{path: "rule list", api: wireAPI, says: `(?m)^https://tea\.example/t/ `},
	{path: "rule edit", api: wireAPI, words: "https://tea.example/t/ pages/v/v", says: `^changed https://tea\.example/t/`},
	{path: "rule publish", api: wireAPI, words: "https://tea.example/t/", says: `^published https://tea\.example/t/; 98 publishes left`},
	{path: "rule file", api: wireAPI, says: `(?m)^name +\S+\.txt$`},
	{path: "rule plan", api: wireAPI, words: "$RULES", says: `https://tea\.example/w/`},
	{path: "rule apply", api: wireAPI, words: "$RULES", says: `https://tea\.example/w/`},
	{path: "rule pull", api: wireAPI, says: `(?m)^- prefix: https://tea\.example/t/$`},
	{path: "rule qr", api: wireAPI, words: "https://tea.example/u/7 --out $OUT", says: `^drew `},
	{path: "rule lint", api: wireAPI, says: `^nothing to mend in \d+ rules$`},
	{path: "rule delete", api: wireAPI, words: "https://tea.example/u/ --yes", says: `^deleted https://tea\.example/u/`},
	{path: "rule history", api: adminAPI, words: "https://tea.example/u/", says: `delete +shop`, after: func(w *world) {
		list, err := w.operator.Rules.ListChanges(w.t.Context(), "https://tea.example/u/")
		require.True(w.t, err == nil && len(list) != 0, "%v %v", list, err)
		w.found["SEQ"], w.found["RID"] = fmt.Sprint(list[0].Seq), list[0].RID
	}},
	{path: "audit undo", api: adminAPI, words: "$SEQ", says: `^change \d+ was undone`},
	{path: "rule conflicts", api: adminAPI, words: "https://tea.example/t/7", says: `^no conflicts for `},
	{path: "rule export", api: adminAPI, words: "$OUT", says: `^exported all rules to `},
	{path: "rule import", api: adminAPI, words: "-", in: `{"owner":"shop","prefix":"https://tea.example/i/","path":"pages/i/i"}` + "\n",
		says: `^imported 1 rule: 1 new`},
	{path: "rule force-delete", api: adminAPI, words: "https://tea.example/i/ --reason sold --dry-run",
		says: `(?m)^would delete 1 rule; `},
	{path: "rule force-delete", api: adminAPI, words: "https://tea.example/i/ --reason sold --yes", says: `(?m)^force-deleted 1 rule; `},

	{path: "batch apply", api: wireAPI, words: "10000 --isv order-1 $BRAND", says: `^application \d+`, after: func(w *world) {
		w.found["ID"] = strings.Trim(strings.Fields(w.tr)[1], ";")
	}},
	{path: "batch show", api: wireAPI, words: "$ID $BRAND", says: `(?m)^status +FINISH$`},
	{path: "batch download", api: wireAPI, words: "$ID --out $OUT $BRAND", says: `^wrote 10000 codes of `},
	{path: "label", api: wireAPI, words: "$ID 0-9 --out $OUT --key 0123456789abcdef $BRAND", says: `^wrote 10 codes of `},
	{path: "label", api: wireAPI, words: "$ID 0-9 --out $OUT --format zpl --key 0123456789abcdef $BRAND",
		says: `^wrote 10 codes of `},
	{path: "batch list-codes", api: wireAPI, words: "$ID 0-9 --out $OUT --key 0123456789abcdef $BRAND", says: `^wrote 10 codes of `},
	{path: "symbol draw", words: "https://tea.example/t/7 --format png --out $OUT", says: `^drew `, after: func(w *world) {
		w.found["PHOTO"] = w.found["OUT"]
	}},
	{path: "grade", words: "$PHOTO --expect https://tea.example/t/7", says: `(?m)^overall +A$`},
	{path: "symbol recommend", words: "--text https://tea.example/t/7", says: `^recommended: modules of `},
	{path: "batch activate", api: wireAPI, words: "$ID 0-99 $BRAND $PAGE",
		says: `^activated 100 codes of `},
	{path: "batch list", api: adminAPI, says: `(?m)^\d{9} +brand `},
	{path: "batch retarget", api: adminAPI, words: "$ID 0-49 --target shop --path pages/j/j", says: `^renewed 1 activation of `},
	{path: "batch deactivate", api: adminAPI, words: "$ID 90-99 --yes", says: `^deactivated 10 codes of `},
	{path: "code show", api: adminAPI, words: "$ID:0", says: `(?m)^state +active$`, after: func(w *world) { w.scanCode() }},
	{path: "code show", api: adminAPI, words: "$ID:0 --text", says: `^C\.EXAMPLE/\S+\s*$`},
	{path: "code show", api: wireAPI, words: "$ID:0 $BRAND --data $EMPTY", says: ``},
	{path: "code exchange", api: wireAPI, words: "$TICKET --openid=$OPENID $BRAND", says: `(?m)^state +activated with 0-99$`},
	{path: "code freeze", api: adminAPI, words: "$ID 5-9 --yes", says: `^froze 5 codes of `},
	{path: "code unfreeze", api: adminAPI, words: "$ID 5-9", says: `^unfroze 5 codes of `},
	{path: "code redeem", api: adminAPI, words: "$ID 5", says: `^redeemed 1 code of `},
	{path: "code void", api: adminAPI, words: "$ID 6 --yes", says: `^voided 1 code of `, after: func(w *world) {
		c, err := w.operator.Codes.Get(w.t.Context(), client.CodeName{ID: w.batch(), Index: 6})
		assert.True(w.t, err == nil && c.Void, "the code was voided, and is %+v, %v", c, err)
	}},

	{path: "batch import", api: adminAPI, words: "$CODES --account brand --isv old-1 --application 481865877",
		says: `^imported 2 codes as application 481865877, 2 of them new$`},
	{path: "batch import", api: adminAPI, words: "--undo 481865877 all --yes",
		says: `^deleted 2 codes of 481865877: the application is deleted and its number can be used again$`, after: func(w *world) {
			b, err := w.operator.Batches.Get(w.t.Context(), 481865877)
			assert.True(w.t, err != nil, "the import was taken back, and is %+v", b)
		}},
	{path: "batch serials", api: adminAPI, words: "$ID -", in: "index,serial\n0,bottle-7\n",
		says: `^assigned 1 serial number of \d+, 1 of them new$`},
	{path: "package signer", api: adminAPI, says: `^qrjump namespaces="qrjump-package" ssh-ed25519 \S+$`, after: func(w *world) {
		require.NoError(w.t, os.WriteFile(w.found["SIGNER"], []byte(w.tr), 0o600))
	}},
	{path: "package make", api: adminAPI,
		words: "$ID 2000-2099 --for acme --by-passphrase --passphrase-file $PASSPHRASE --out $PARCEL --proofs 5",
		says:  `^package 1: 100 codes of \d+ for acme, in \S+, \d+ bytes`},
	{path: "package send", api: adminAPI, words: "1 --by-passphrase --passphrase-file $PASSPHRASE --out $PARCEL",
		says: `^wrote package 1 to `},
	{path: "package list", api: adminAPI, says: `(?m)^1 +\d+ +2000-2099 +acme +with the printer +2 `},
	{path: "package open", words: "$PARCEL --passphrase-file $PASSPHRASE --signer $SIGNER --out $JOB", says: `^opened package 1 in `},
	{path: "package verify", words: "$JOB --signer $SIGNER", says: `^package 1 is complete: `},
	{path: "package check", words: "$JOB - --spoiled 2000-2099", says: `(?m)^ordered +100 codes$`},
	{path: "package spoil", api: adminAPI, words: "1 2000 --yes", says: `^spoiled codes of package 1 so far: 1 code, void permanently$`},
	{path: "package recall", api: adminAPI, words: "1 --yes", says: `^recalled package 1: 100 codes of \d+ were frozen$`},

	{path: "scan", api: scanAPI, words: "https://tea.example/t/7", says: `(?m)^opens +Mini Program shop, release$`},
	{path: "scan", api: scanAPI, words: "--explain https://tea.example/t/7", says: `(?m)^opens +https://tea\.example/t/`},
	{path: "scan", api: scanAPI, words: "-", in: "https://tea.example/t/7\nhello\n", says: `(?m)^\{.*open_mini_program.*\n\{.*show_text`},
	{path: "scan", api: scanAPI, words: "- --explain", in: "hello\n", says: `^\{.*show_text`},
	{path: "scan", api: adminAPI, words: "--at 2026-01-01T00:00:00Z https://tea.example/t/7", says: `(?m)^at that time `},
	{path: "scan", words: "--snapshot $SNAPSHOT https://tea.example/t/7"},
	{path: "scans", api: adminAPI, words: "--limit 0", says: `https://tea\.example/t/7`},
	{path: "scans", api: adminAPI, words: "--since 1h --rule https://tea.example/t/", says: `https://tea\.example/t/7`},
	{path: "scans", api: adminAPI, words: "--follow"},
	{path: "scans", api: adminAPI, words: "--since 1h --out $OUT", says: `^wrote \d{3,} bytes to `},
	{path: "scans", api: adminAPI, words: "--output csv --limit 0", says: `https://tea\.example/t/7`},
	{path: "stats show", api: adminAPI, says: `SCANS`},
	{path: "stats show", api: adminAPI, words: "--output csv", says: `^scans\n\d+$`},
	{path: "stats unmatched", api: adminAPI, says: `(?m)^\(no link\) +1 `},
	{path: "stats show", api: adminAPI, words: "--out -", says: `^starts_at,value,scans,first_scans,users\n`},
	{path: "stats unmatched", api: adminAPI, words: "--out -", says: `^location,scans\n`},
	{path: "stats alarms", api: adminAPI, words: "--out $OUT", says: `^wrote \d{3,} bytes to `},
	{path: "stats alarms", api: adminAPI, says: `^no alarm is open$`},
	{path: "stats alarms", api: adminAPI, words: "--acknowledge 1", exit: exitAbsent, says: `there is no alarm with this id`},
	{path: "stats alarms", api: adminAPI, words: "--confirm 1", exit: exitAbsent, says: `there is no alarm with this id`},
	{path: "stats alarms", api: adminAPI, words: "--dismiss 1 --note gift", exit: exitAbsent, says: `there is no alarm with this id`},
	{path: "api", api: adminAPI, words: "shareChart question=by=day&days=30 title=Tea days=7", says: `(?m)^url +http\S+/console/shared/`},
	{path: "api", api: adminAPI, words: "listSharedCharts", says: `(?m)^[0-9a-f]{16} .*Tea`},
	{path: "api", api: adminAPI, words: "revokeSharedChart id=0123 --yes", exit: exitAbsent, says: `there is no such shared chart`},
	{path: "why", api: adminAPI, words: "$RID", says: `of shop`},
	{path: "person add", api: adminAPI, words: "alice --role rules-editor --account shop1 --password four-wild-geese-over-Urumqi --second-factor",
		says: `(?s)^alice may sign in as rules-editor of shop1\n.*otpauth://totp/.*recovery codes`},
	{path: "person update", api: adminAPI, words: "alice --role operator --all-accounts",
		says: `^alice is now operator of all accounts; all sessions ended$`},
	{path: "person list", api: adminAPI, says: `(?m)^alice +operator +all accounts +two-factor authentication +never$`},
	{path: "login-link", api: adminAPI, words: "alice", says: `^http://.*/console/login\?once=\S{43}\n`},
	{path: "api", api: adminAPI, words: "deleteSessions name=alice --yes", says: `(?m)^name +alice$`},
	{path: "person delete", api: adminAPI, words: "alice --yes", says: `^alice can no longer sign in$`},
	{path: "admin-key add", api: adminAPI, words: "till --role marketer --days 9",
		says: `^qrk_\S{43}\nthis is the API key [0-9a-f]{16} of till`},
	{path: "admin-key list", api: adminAPI, says: `(?m)^[0-9a-f]{16} +till +marketer +all accounts +20`, after: func(w *world) {
		w.found["KEYID"] = regexp.MustCompile(`[0-9a-f]{16}`).FindString(w.tr)
	}},
	{path: "admin-key delete", api: adminAPI, words: "$KEYID --yes", says: `^API key [0-9a-f]{16} was revoked$`},
	{path: "deviations", api: adminAPI, says: `(?m)^rules\.confirm\.vouched +assumed +shop +`},
	{path: "deviations", api: adminAPI, words: "--coverage", says: `(?m)^-1 +not covered +\d+ `},
	{path: "deviations", api: adminAPI, words: "--clear", says: `^the list was cleared$`},
	{path: "audit list", api: adminAPI, says: `shop1`},

	{path: "setting list", api: adminAPI, says: `(?m)^rule_rate_limit +unlimited +5 +calls per second`},
	{path: "setting list", api: adminAPI, words: "verification", says: `(?m)^value +"trust"$`},
	{path: "setting set", api: adminAPI, words: "allow_private_hosts true",
		says: `^allow_private_hosts is now true; it was false\. Takes effect: immediately`},
	{path: "setting set", api: adminAPI, words: "ticket_ttl_minutes 5 --output json", says: `"value": 5`},
	{path: "setting set", api: adminAPI, words: "ticket_ttl_minutes --default",
		says: `^ticket_ttl_minutes is now 30, its default; it was 5\.`},
	{path: "scan-key list", api: adminAPI, says: `(?m)^app +default +20`},
	{path: "scan-key add", api: adminAPI, words: "till --namespace shops --output json", says: `"key": "qrs_`},
	{path: "scan-key delete", api: adminAPI, words: "till --yes", says: `^scan key till was revoked$`},
	{path: "gs1 list", api: adminAPI, says: `^no GS1 keys; `},
	{path: "gs1 set", api: adminAPI, words: "01/9506000134352 --href https://tea.example/p/{01} --title Tea --hreflang en",
		says: `(?m)^gs1:pip +https://tea.example/p/\{01\} +Tea +en +default`},
	{path: "gs1 list", api: adminAPI, says: `(?m)^01/09506000134352 `},
	{path: "gs1 list", api: adminAPI, words: "01/09506000134352", says: `(?m)^key +01/09506000134352$`},
	{path: "gs1 export", api: adminAPI, words: "- --as csv",
		says: `(?m)^01/09506000134352,,,,,gs1:pip,https://tea.example/p/\{01\},Tea,en,,,true,,$`},
	{path: "gs1 export", api: adminAPI, words: "-", says: `(?m)^\{"key":"01/09506000134352",`},
	{path: "gs1 plan", api: adminAPI, words: "-",
		in:   "gs1:\n  - {key: 01/09506000134352/10/A, links: [{linktype: \"gs1:epil\", href: \"https://tea.example/a\", title: A}]}\n",
		says: `(?m)^\+ +add +01/09506000134352/10/A`},
	{path: "gs1 apply", api: adminAPI, words: "- --prune --yes", in: `{"key":"01/09506000134352/10/A","archived":true,"links":[]}` + "\n",
		says: `(?s)delete +01/09506000134352 .*done: 2 steps`},
	{path: "gs1 delete", api: adminAPI, words: "01/09506000134352/10/A --yes",
		says: `^deleted the entry of 01/09506000134352/10/A, which had 0 links$`,
		after: func(w *world) {
			list, err := w.operator.AuditLog.List(w.t.Context(), client.ChangesQuery{Newest: true, Kind: "gs1", Limit: 1})
			require.True(w.t, err == nil && len(list) == 1, "%v %v", list, err)
			w.found["GS1"] = fmt.Sprint(list[0].Seq)
		}},
	{path: "audit undo", api: adminAPI, words: "$GS1", says: `^01/09506000134352/10/A was restored to its state before change \d+$`},
	{path: "gs1 transfer", api: adminAPI, words: "01/09506000134352 --to shop1 --yes",
		says: `keys? was transferred to shop1$`},
	{path: "api", api: adminAPI, words: "putDomain host=Bad.example status=denied", says: `.`},
	{path: "api", api: adminAPI, words: "listDomains", says: `(?m)^bad\.example +denied +20`},
	{path: "api", api: adminAPI, words: "deleteDomain host=bad.example --yes", says: `^$`},
	{path: "webhook add", api: adminAPI, words: "$HOOK --alarms --output json", says: `"secret": "whsec_`},
	{path: "webhook list", api: adminAPI, says: `(?m)^1 +on +http\S+ +alarms +20`},
	{path: "webhook update", api: adminAPI, words: "1 --codes $ID:0-99 --no-alarms",
		says: `^changed webhook 1: it is on and sends to \S+: codes \d+:0-99$`},
	{path: "webhook test", api: adminAPI, words: "1", says: `^webhook 1 works: the receiver responded with 204 \(delivery 1\)$`},
	{path: "webhook deliveries", api: adminAPI, words: "--state delivered", says: `(?m)^1 +1 +test_\w+ +delivered +1 +204 `},
	{path: "api", api: adminAPI, words: "replayDelivery id=1", says: `(?m)^event +test_`},
	{path: "webhook delete", api: adminAPI, words: "1 --yes", says: `^deleted webhook 1 to http`},
	{path: "listen", api: otherTest},

	{path: "rule list", api: adminAPI, words: "--owner shop --limit 1",
		says: `(?m)^\d+ +shop +https://tea\.example/t/ .*\nthere may be more: --after \d+, or`},
	{path: "batch schedule", api: adminAPI, words: "$ID 200-209 --at 2098-01-31T00:00:00Z $PAGE",
		says: `^10 codes of \d+: from 2098-01-31T00:00:00Z, codes that are not void or frozen open pages/i/i of shop$`},
	{path: "start codes", api: adminAPI, words: "brand --target shop --isv start --title Beans --product-code 6901234567892",
		says: `(?m)^\$ qrjump batch apply 10000 --appid brand --isv start --for-approval$`},
	{path: "start rules", api: adminAPI, words: "begins --prefix https://begins.example/ --secret-file $OUT",
		says: `(?m)^https://begins\.example/ opens begins\.$`},
	{path: "batch apply", api: adminAPI, words: "10000 --appid brand --isv wish --for-approval",
		says: `^application \d+; .*qrjump help batch schedule$`},
	{path: "batch orders", api: adminAPI, says: `(?m)^brand +wish +10000 +- +admin +made +[0-9a-f]{32} +admin +\d+ +0 +0 +0$`},
	{path: "batch approve", api: adminAPI, words: "brand stale --isv wish", exit: exitRefused,
		says: `admin decided this order already`},
	{path: "batch reject", api: adminAPI, words: "brand stale --isv wish", exit: exitRefused,
		says: `admin decided this order already`},
	{path: "search", api: adminAPI, words: "tea.example", says: `(?m)^rule +https://tea\.example/t/ +pages/v/v +shop$`},
	{path: "search", api: adminAPI, words: "WISH --account brand", says: `(?m)^batch +\d+ +wish +brand$`},
	{path: "batch alarm", api: adminAPI, words: "$ID",
		says: `^codes of \d+ raise an alarm from a score of 100 \(the server-wide threshold\)$`},
	{path: "batch alarm", api: adminAPI, words: "$ID --off", says: `^alarms are disabled for codes of \d+ \(set for this batch\)$`},
	{path: "batch alarm", api: adminAPI, words: "$ID --threshold 150 --output json", says: `"threshold": 150`},
	{path: "batch alarm", api: adminAPI, words: "$ID --default", says: `100 \(the server-wide threshold\)$`},
	{path: "batch alarm", api: adminAPI, words: "$ID --replay 1", says: `(?m)^alarms raised +0$`},
	{path: "code log", api: adminAPI, words: "$ID", says: `(?m)^\d+ +20\S+ +activate +10 +200-209 +2098-01-31T`},
	{path: "code log", api: adminAPI, words: "$ID:0", says: `(?m)^scans +1$`},
	{path: "code log", api: adminAPI, words: "$ID:1", says: `(?m)^code \d+:1 was never scanned$`},
	{path: "api", api: adminAPI, words: "listScanNodes --output json", says: `"nodes": \[\]`},
	{path: "api", api: adminAPI, words: "deleteScanNode node=5f2c --yes", exit: exitAbsent, says: `there is no such node`},
	{path: "behaviour list", api: adminAPI, words: "--evidence assumed --prefix rules.confirm",
		says: `(?m)^rules\.confirm\.vouched +assumed `},
	{path: "behaviour list", api: adminAPI, words: "rules.confirm.vouched", says: `(?m)^evidence level +assumed by qrjump`},
	{path: "component set", api: adminAPI, words: "isv --secret the-secret-of-the-isv --message-token tok --encoding-aes-key $AESKEY",
		says: `^created isv$`},
	{path: "component set", api: adminAPI, words: "isv --redirect-host isv.example", says: `^changed isv$`},
	{path: "component list", api: adminAPI, says: `(?m)^isv +0 +- +20`},
	{path: "api", api: adminAPI, words: "createTicket component=isv", says: `ticket@@@`, after: func(w *world) { w.askForAuthorization() }},
	{path: "component consent", api: adminAPI, words: "isv shop --pre-auth-code $PREAUTH --set 18,33 --output json",
		says: `"auth_code": "`},
	{path: "component show", api: adminAPI, words: "isv", says: `(?m)^shop +18 33 +20`},
	{path: "account show", api: adminAPI, words: "shop", says: `(?m)^isv +18 33 +20`},
	{path: "component revoke", api: adminAPI, words: "isv shop --yes", says: `^shop revoked the authorisation of isv$`},
	{path: "account show", api: adminAPI, words: "brand", says: `(?m)^shop .* linked +20`},
	{path: "account list", api: adminAPI, words: "--waiting-links",
		says: `^no accounts$`, after: func(w *world) { w.askForLink() }},
	{path: "account list", api: adminAPI, words: "--waiting-links", says: `(?m)^brand +service_account `},
	{path: "api", api: adminAPI, words: "confirmLink appid=brand mini_program=shop1 side=account approve=true", says: `(?m)^shop1 `},
	{path: "account delete", api: adminAPI, words: "brand --dry-run",
		says: `(?m)^prevents deletion +\d+ applications? for codes`},
	{path: "account delete", api: adminAPI, words: "brand --yes", exit: exitRefused,
		says: `(?m)^qrjump: brand cannot be deleted, because it has: .*\d+ applications? for codes`},
	{path: "account delete", api: adminAPI, words: "shop3 --dry-run --output json", says: `"deleted": false`},
	{path: "account delete", api: adminAPI, words: "shop3 --yes", says: `^deleted shop3$`},
	{path: "component delete", api: adminAPI, words: "isv --dry-run", says: `(?m)^would delete isv; nothing was changed$`},
	{path: "component delete", api: adminAPI, words: "isv --yes", says: `^deleted isv$`},
	{path: "verification list", api: adminAPI, words: "--account shop", says: `(?m) add +shop +yes +https://tea\.example/t/ `},
	{path: "verification list", api: adminAPI, words: "--rid $CONFIRMED", says: `(?m)^found +yes$`},
	{path: "verification run", api: adminAPI, says: `^checked \d+ files?; `},
	{path: "api", api: adminAPI, words: "eraseUser user=alice --yes", says: `(?m)^scans +1$`},
	{path: "rule replay", api: wireAPI, words: "$RULES --prune --days 1",
		says: `(?m)^\d+ +pages/v/v of shop by https://tea\.example/t/ +open url +https://tea\.example/t/7$`},

	{path: "calls", api: adminAPI, says: `(?m) POST /cgi-bin/wxopen/qrcodejumpadd`},
	{path: "calls", api: adminAPI, words: "--follow"},
	{path: "calls", api: adminAPI, words: "--persisted --path /cgi-bin/wxopen/qrcodejumpadd", says: `(?m) /cgi-bin/wxopen/qrcodejumpadd`},
	{path: "calls", api: adminAPI, words: "--errors --output json", says: `"errors": \[`},
	{path: "fault add", api: adminAPI, words: "/cgi-bin/token --errcode=-1 --times 2",
		says: `^every call for /cgi-bin/token from now on, 2 times: returns -1$`},
	{path: "fault list", api: adminAPI, says: `(?m)^1 +/cgi-bin/token +any +returns -1 +0 of 2 +0$`},
	{path: "fault clear", api: adminAPI, words: "1", says: `^1 fault ended$`},
	{path: "fault clear", api: adminAPI, says: `^there was no fault to remove$`},
	{path: "fault add", api: adminAPI, words: "--from-file $FAULTS", says: `^1 fault in force from now on$`},
	{path: "fault clear", api: adminAPI, says: `^1 fault ended$`},

	{path: "export", api: adminAPI, words: "$OUT --passphrase-file $PASSPHRASE", says: `^exported \d+ rows of `, after: func(w *world) {
		w.found["ARCHIVE"] = w.found["OUT"]
	}},
	{path: "restore-drill", words: "$ARCHIVE --passphrase-file $PASSPHRASE", says: `(?m)^this backup file can be restored`},
	{path: "restore-drill", api: adminAPI, words: "$ARCHIVE --passphrase-file $PASSPHRASE --note",
		says: `(?m)^this backup file can be restored`},
	{path: "import", words: "$ARCHIVE --passphrase-file $PASSPHRASE --data $RESTORED", says: `^imported \d+ rows of `},
	{path: "clock show", api: adminAPI, says: `^the clock shows \S+Z \(real time\)$`},
	{path: "clock set", api: adminAPI, words: "--freeze", says: `, frozen, `},
	{path: "clock set", api: adminAPI, words: "--resume", says: `^the clock shows \S+Z`},
	{path: "clock set", api: adminAPI, words: "--real-time", says: ` \(real time\)$`},
	{path: "clock set", api: adminAPI, words: "+36h", says: `, 36h0m0s ahead of real time$`},
	{path: "clock set", api: adminAPI, words: "2099-01-31T15:04:05Z", says: `^the clock shows 2099-01-31T15:04:`},
	{path: "seed", api: adminAPI, words: "-", in: "accounts:\n  - {appid: planted, kind: mini_program}\n",
		says: `^applied the seed file: 1 account, 0 platforms, 0 rules$`},
	{path: "snapshot save", api: adminAPI, words: "base", says: `^saved base: \d+ accounts, `},
	{path: "snapshot save", api: adminAPI, words: "base --yes", says: `^saved base: \d+ accounts, `},
	{path: "snapshot load", api: adminAPI, words: "base --yes", says: `^restored the server to base, saved `},
	{path: "reset", api: adminAPI, words: "--account nobody --yes", exit: exitRefused,
		says: `there is no account nobody; nothing was reset`},
	{path: "reset", api: adminAPI, words: "--account shop --yes", says: `^shop: reset to the seed file; other accounts are unchanged$`},
	{path: "reset", api: adminAPI, words: "--yes", says: `^the server was reset to its seed file and real time`},

	{path: "master-key rotate", words: "--data $RESTORED", says: `^rotated the master key`},
}

const bound = "--activity a --brand b --title t --product-code 6901234567892 --target shop --path pages/i/i"

const verbsSeed = `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-both, certified: true, versions: [release]}
  - {appid: brand, kind: service_account, secret: the-secret-of-both, certified: true, features: [marketcode],
     marketcode_key: 0123456789abcdef, linked: [shop]}
settings: {verification: trust, rule_rate_limit: null}
`

// faultsFile is for fault add.
const faultsFile = `faults: [{method: GET, path: /cgi-bin/menu/get, response: {body: {menu: {button: []}}}, count: 3}]
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
	list, err := w.operator.Verifications.ListChecks(w.t.Context(), client.ConfirmationQuery{})
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
		assert.True(t, slices.ContainsFunc(everyVerb, func(v verb) bool { return v.path == path && (v.says != "" || v.api == otherTest) }),
			"%s is not in everyVerb: add a line that runs it, with what it says", path)
	}
	for _, v := range everyVerb {
		assert.True(t, slices.Contains(table, v.path), "there is no verb %s", v.path)
	}
}

// Issue 11, 4: the production set-up of the README. The verbs find each API by the data folder, or by flags.
func TestVerbs_SeparateListeners(t *testing.T) {
	for name, flags := range map[string]func(*world) map[string]string{
		"by the data folder": func(w *world) map[string]string { return map[string]string{"DATA": filepath.Join(w.dir, "data")} },
		"by the public address and the data folder": func(w *world) map[string]string {
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
			for i, v := range everyVerb {
				if v.says == "" {
					continue
				}
				w.found["OUT"] = filepath.Join(w.dir, fmt.Sprint("out-", i))
				playing.Store(v.path)
				asks(t, v, w.found, "")
				if name == "by the data folder" {
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

// meanings has each verb that is named show, add, set or delete, and what stands for one of these.
var meanings = []meaning{
	{path: "batch show", words: "500000999 $BRAND", exit: exitRefused,
		why: "the platform refuses a number that is none as it refuses any other"},
	{path: "code show", words: "500000999:1", exit: exitAbsent},
	{path: "account show", words: "nobody", exit: exitAbsent},
	{path: "component show", words: "nobody", exit: exitAbsent},
	{path: "verification list", words: "--rid 00000000-00000000-00000000", exit: exitAbsent},
	{path: "clock show", why: "there is one clock"},
	{path: "stats show", why: "it shows all scans"},

	{path: "rule add", words: "https://tea.example/t/ pages/t/t", twice: "https://tea.example/t/ pages/t/t", exit: exitRefused},
	{path: "scan-key add", words: "till", twice: "till", exit: exitRefused},
	{path: "person add", words: "alice --role viewer --password four-wild-geese-over-Urumqi",
		twice: "alice --role viewer --password four-wild-geese-over-Urumqi", exit: exitRefused},
	{path: "admin-key add", words: "till --role viewer", twice: "till --role viewer", why: "a key is known by its id"},
	{path: "webhook add", words: "$HOOK --alarms", twice: "$HOOK --alarms", why: "a webhook is known by its id"},
	{path: "fault add", words: "/cgi-bin/wxopen/qrcodejumpget --errcode=-1",
		twice: "/cgi-bin/wxopen/qrcodejumpget --errcode=-1", why: "a fault is known by its id"},

	{path: "setting set", words: "rule_rate_limit 7", twice: "rule_rate_limit 8"},
	{path: "gs1 set", words: "01/9506000134352 --href https://tea.example/a --title A",
		twice: "01/9506000134352 --href https://tea.example/b --title B"},
	{path: "context set", words: "mill --server http://127.0.0.1:1", twice: "mill --appid shop"},
	{path: "account set", words: "shop5 --kind mini_program", twice: "shop5 --name Tea"},
	{path: "component set", words: "isv --secret the-secret-of-the-isv --message-token tok --encoding-aes-key $AESKEY",
		twice: "isv --redirect-host isv.example"},
	{path: "clock set", words: "2099-01-31T15:04:05Z", twice: "2099-02-01T15:04:05Z"},

	{path: "rule delete", words: "https://none.example/ --yes", exit: exitAbsent},
	{path: "account delete", words: "nobody --yes", exit: exitAbsent},
	{path: "component delete", words: "nobody --yes", exit: exitAbsent},
	{path: "scan-key delete", words: "nothing --yes", exit: exitAbsent},
	{path: "gs1 delete", words: "01/04012345678901 --yes", exit: exitAbsent},
	{path: "webhook delete", words: "99 --yes", exit: exitAbsent},
	{path: "person delete", words: "nobody --yes", exit: exitAbsent},
	{path: "admin-key delete", words: "0123456789abcdef --yes", exit: exitAbsent},
	{path: "context delete", words: "nothing --yes", exit: exitAbsent},
}

// Issue 33, 3: list, show, add, set and delete mean one thing. A list is looked at by TestVerbs_SeparateListeners.
func TestVerbs_ConsistentNaming(t *testing.T) {
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
			t.Errorf("%s is not in meanings: add a line that shows what it means", path)
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
				for i, v := range everyVerb {
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
