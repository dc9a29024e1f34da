package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
)

type (
	ctx = context.Context
	api = client.Client
)

// everyCall makes each call of a Client once, with "x" for every name.
var everyCall = map[string]func(ctx, *api) error{
	"Accounts":         only(func(ctx ctx, c *api) (any, error) { return c.Accounts(ctx, "", 0) }),
	"Account":          only(func(ctx ctx, c *api) (any, error) { return c.Account(ctx, "x") }),
	"PutAccount":       func(ctx ctx, c *api) error { return c.PutAccount(ctx, "x", client.AccountPut{}) },
	"SetVersions":      func(ctx ctx, c *api) error { return c.SetVersions(ctx, "x", nil) },
	"SetJump":          func(ctx ctx, c *api) error { return c.SetJump(ctx, "x", false) },
	"Appearance":       only(func(ctx ctx, c *api) (any, error) { return c.Appearance(ctx, "x") }),
	"PutAppearance":    only(func(ctx ctx, c *api) (any, error) { return c.PutAppearance(ctx, "x", client.AppearancePut{}) }),
	"SetMember":        func(ctx ctx, c *api) error { return c.SetMember(ctx, "x", "x", "trial") },
	"RemoveMember":     func(ctx ctx, c *api) error { return c.RemoveMember(ctx, "x", "x") },
	"Link":             func(ctx ctx, c *api) error { return c.Link(ctx, "x", "x") },
	"Unlink":           func(ctx ctx, c *api) error { return c.Unlink(ctx, "x", "x") },
	"Behaviours":       only(func(ctx ctx, c *api) (any, error) { return c.Behaviours(ctx) }),
	"Call":             only(func(ctx ctx, c *api) (any, error) { return c.Call(ctx, "6b014eb5-33fd11fd-de1ef813") }),
	"Deviations":       only(func(ctx ctx, c *api) (any, error) { return c.Deviations(ctx, "x") }),
	"ForgetDeviations": only(func(ctx ctx, c *api) (any, error) { return c.ForgetDeviations(ctx, "x") }),
	"EndTokens":        func(ctx ctx, c *api) error { return c.EndTokens(ctx, "x") },
	"Abilities":        only(func(ctx ctx, c *api) (any, error) { return c.Abilities(ctx, "x") }),
	"PublishesLeft":    only(func(ctx ctx, c *api) (any, error) { return c.PublishesLeft(ctx, "x") }),
	"Batches":          only(func(ctx ctx, c *api) (any, error) { return c.Batches(ctx, client.BatchQuery{}) }),
	"Batch":            only(func(ctx ctx, c *api) (any, error) { return c.Batch(ctx, 1) }),
	"ChangeCodes": only(func(ctx ctx, c *api) (any, error) {
		return c.ChangeCodes(ctx, 1, client.Void, client.CodeChange{})
	}),
	"BindSerials": only(func(ctx ctx, c *api) (any, error) { return c.BindSerials(ctx, 1, nil, true, "x") }),
	"BeginImport": only(func(ctx ctx, c *api) (any, error) { return c.BeginImport(ctx, "brand", client.NewImport{}) }),
	"TakeBackImport": only(func(ctx ctx, c *api) (any, error) {
		return c.TakeBackImport(ctx, 1, client.ImportToTakeBack{To: 9, Note: "n", Actor: "x"})
	}),
	"ImportCodes": only(func(ctx ctx, c *api) (any, error) {
		return c.ImportCodes(ctx, 1, 1, "x", strings.NewReader("a line\n"))
	}),
	"MakePackage":   only(func(ctx ctx, c *api) (any, error) { return c.MakePackage(ctx, 1, client.PackageWish{}) }),
	"SendPackage":   func(ctx ctx, c *api) error { return c.SendPackage(ctx, 1, "", io.Discard) },
	"Packages":      only(func(ctx ctx, c *api) (any, error) { return c.Packages(ctx, client.PackageQuery{}) }),
	"Package":       only(func(ctx ctx, c *api) (any, error) { return c.Package(ctx, 1) }),
	"RecallPackage": only(func(ctx ctx, c *api) (any, error) { return c.RecallPackage(ctx, 1, "x", "x") }),
	"SpoilCodes":    only(func(ctx ctx, c *api) (any, error) { return c.SpoilCodes(ctx, 1, nil, "x", "x") }),
	"PackageSigner": only(func(ctx ctx, c *api) (any, error) { return c.PackageSigner(ctx) }),
	"WithdrawCodes": only(func(ctx ctx, c *api) (any, error) {
		return c.WithdrawCodes(ctx, 1, time.Time{}, client.CodeChange{})
	}),
	"RetargetCodes": only(func(ctx ctx, c *api) (any, error) {
		return c.RetargetCodes(ctx, 1, client.CodeRange{}, "x", "x", 0, "")
	}),
	"FindScans":    only(func(ctx ctx, c *api) (any, error) { return c.FindScans(ctx, client.ScanFilter{User: "alice"}, "", 0) }),
	"NewestScans":  only(func(ctx ctx, c *api) (any, error) { return c.NewestScans(ctx, 1) }),
	"LookupCode":   only(func(ctx ctx, c *api) (any, error) { return c.LookupCode(ctx, client.CodeName{}) }),
	"OpenID":       only(func(ctx ctx, c *api) (any, error) { return c.OpenID(ctx, "x", "x", "") }),
	"Clock":        only(func(ctx ctx, c *api) (any, error) { return c.Clock(ctx) }),
	"Advance":      func(ctx ctx, c *api) error { return c.Advance(ctx, time.Hour) },
	"SetClock":     func(ctx ctx, c *api) error { return c.SetClock(ctx, time.Now()) },
	"FreezeClock":  func(ctx ctx, c *api) error { return c.FreezeClock(ctx) },
	"AddFault":     func(ctx ctx, c *api) error { return c.AddFault(ctx, client.Fault{}) },
	"ReseedFaults": func(ctx ctx, c *api) error { return c.ReseedFaults(ctx, 7) },
	"ClearFaults":  func(ctx ctx, c *api) error { return c.ClearFaults(ctx) },
	"Stubs":        only(func(ctx ctx, c *api) (any, error) { return c.Stubs(ctx) }),
	"SetStubs":     func(ctx ctx, c *api) error { return c.SetStubs(ctx, []client.Stub{{Path: "/x"}}) },
	"AddSeed":      only(func(ctx ctx, c *api) (any, error) { return c.AddSeed(ctx, "rules: []") }),
	"ClearStubs":   func(ctx ctx, c *api) error { return c.ClearStubs(ctx) },
	"RunClock":     func(ctx ctx, c *api) error { return c.RunClock(ctx) },
	"RealClock":    func(ctx ctx, c *api) error { return c.RealClock(ctx) },
	"Faults":       only(func(ctx ctx, c *api) (any, error) { return c.Faults(ctx) }),
	"RemoveFault":  func(ctx ctx, c *api) error { return c.RemoveFault(ctx, 1) },
	"Calls":        only(func(ctx ctx, c *api) (any, error) { return c.Calls(ctx, client.CallQuery{}) }),
	"NoteDrill":    func(ctx ctx, c *api) error { return c.NoteDrill(ctx, client.Drill{OK: true}) },
	"KeptCalls":    only(func(ctx ctx, c *api) (any, error) { return c.KeptCalls(ctx, client.KeptCallQuery{}) }),
	"CallErrors":   only(func(ctx ctx, c *api) (any, error) { return c.CallErrors(ctx, "", "", 0, 0) }),
	"Components":   only(func(ctx ctx, c *api) (any, error) { return c.Components(ctx, "", 0) }),
	"Component":    only(func(ctx ctx, c *api) (any, error) { return c.Component(ctx, "x") }),
	"PutComponent": only(func(ctx ctx, c *api) (any, error) {
		return c.PutComponent(ctx, "x", client.ComponentPut{})
	}),
	"Pushes":              only(func(ctx ctx, c *api) (any, error) { return c.Pushes(ctx, "x", 0) }),
	"Authorizations":      only(func(ctx ctx, c *api) (any, error) { return c.Authorizations(ctx, "x") }),
	"WithdrawFromAccount": func(ctx ctx, c *api) error { return c.WithdrawFromAccount(ctx, "x", "x") },
	"Withdraw":            func(ctx ctx, c *api) error { return c.Withdraw(ctx, "x", "x") },
	"Authorize":           only(func(ctx ctx, c *api) (any, error) { return c.Authorize(ctx, client.Agreement{}) }),
	"MakeTicket":          only(func(ctx ctx, c *api) (any, error) { return c.MakeTicket(ctx, "x") }),
	"Links":               only(func(ctx ctx, c *api) (any, error) { return c.Links(ctx, "x") }),
	"ConfirmLink":         only(func(ctx ctx, c *api) (any, error) { return c.ConfirmLink(ctx, "x", "x", client.SideAccount, true) }),
	"Webhooks":            only(func(ctx ctx, c *api) (any, error) { return c.Webhooks(ctx) }),
	"AddWebhook":          only(func(ctx ctx, c *api) (any, error) { return c.AddWebhook(ctx, client.WebhookPut{}) }),
	"SetWebhook":          only(func(ctx ctx, c *api) (any, error) { return c.SetWebhook(ctx, 1, client.WebhookPut{}, nil) }),
	"DeleteWebhook":       only(func(ctx ctx, c *api) (any, error) { return c.DeleteWebhook(ctx, 1) }),
	"TestWebhook":         only(func(ctx ctx, c *api) (any, error) { return c.TestWebhook(ctx, 1) }),
	"Deliveries":          only(func(ctx ctx, c *api) (any, error) { return c.Deliveries(ctx, client.DeliveryQuery{}) }),
	"ReplayDelivery":      only(func(ctx ctx, c *api) (any, error) { return c.ReplayDelivery(ctx, 1) }),
	"Rechecks":            only(func(ctx ctx, c *api) (any, error) { return c.Rechecks(ctx, client.RecheckQuery{}) }),
	"RecheckNow":          only(func(ctx ctx, c *api) (any, error) { return c.RecheckNow(ctx) }),
	"ReplayPlan":          only(func(ctx ctx, c *api) (any, error) { return c.ReplayPlan(ctx, []client.PlannedRule{}, 1) }),
	"DescribeSettings":    only(func(ctx ctx, c *api) (any, error) { return c.DescribeSettings(ctx) }),
	"ResetSetting":        func(ctx ctx, c *api) error { return c.ResetSetting(ctx, "x") },
	"Reset":               func(ctx ctx, c *api) error { return c.Reset(ctx) },
	"Changes": only(func(ctx ctx, c *api) (any, error) {
		return c.Changes(ctx, client.ChangesQuery{})
	}),
	"VerifyAudit":    only(func(ctx ctx, c *api) (any, error) { return c.VerifyAudit(ctx) }),
	"UndoRuleChange": only(func(ctx ctx, c *api) (any, error) { return c.UndoRuleChange(ctx, 1) }),
	"ResolveThen": only(func(ctx ctx, c *api) (any, error) {
		return c.ResolveThen(ctx, client.ScanRequest{}, time.Now())
	}),
	"DomainsAfter":   only(func(ctx ctx, c *api) (any, error) { return c.DomainsAfter(ctx, "x", 1) }),
	"Domains":        only(func(ctx ctx, c *api) (any, error) { return c.Domains(ctx) }),
	"SetDomain":      func(ctx ctx, c *api) error { return c.SetDomain(ctx, "x", "denied") },
	"ForgetDomain":   func(ctx ctx, c *api) error { return c.ForgetDomain(ctx, "x") },
	"Settings":       only(func(ctx ctx, c *api) (any, error) { return c.Settings(ctx) }),
	"SetSettings":    func(ctx ctx, c *api) error { return c.SetSettings(ctx, map[string]any{}) },
	"People":         only(func(ctx ctx, c *api) (any, error) { return c.People(ctx) }),
	"AddPerson":      only(func(ctx ctx, c *api) (any, error) { return c.AddPerson(ctx, client.PersonPut{}) }),
	"ChangePerson":   only(func(ctx ctx, c *api) (any, error) { return c.ChangePerson(ctx, "x", client.PersonChange{}) }),
	"SignOutPerson":  only(func(ctx ctx, c *api) (any, error) { return c.SignOutPerson(ctx, "x") }),
	"DeletePerson":   only(func(ctx ctx, c *api) (any, error) { return c.DeletePerson(ctx, "x") }),
	"AdminKeys":      only(func(ctx ctx, c *api) (any, error) { return c.AdminKeys(ctx) }),
	"AddAdminKey":    only(func(ctx ctx, c *api) (any, error) { return c.AddAdminKey(ctx, client.AdminKeyPut{}) }),
	"DeleteAdminKey": only(func(ctx ctx, c *api) (any, error) { return c.DeleteAdminKey(ctx, "x") }),
	"LoginLink":      only(func(ctx ctx, c *api) (any, error) { return c.LoginLink(ctx, "") }),
	"ScheduleCodes": only(func(ctx ctx, c *api) (any, error) {
		return c.ScheduleCodes(ctx, 1, client.CodeRange{}, client.CodeBinding{}, time.Time{}, "", "")
	}),
	"CodeEvents":         only(func(ctx ctx, c *api) (any, error) { return c.CodeEvents(ctx, 1, 0, 0) }),
	"RefusedCredentials": only(func(ctx ctx, c *api) (any, error) { return c.RefusedCredentials(ctx) }),
	"ScanNodes":          only(func(ctx ctx, c *api) (any, error) { return c.ScanNodes(ctx) }),
	"VerifyLake":         only(func(ctx ctx, c *api) (any, error) { return c.VerifyLake(ctx, "", "") }),
	"ForgetScanNode":     only(func(ctx ctx, c *api) (any, error) { return c.ForgetScanNode(ctx, "x") }),
	"ScanKeys":           only(func(ctx ctx, c *api) (any, error) { return c.ScanKeys(ctx) }),
	"AddScanKey":         only(func(ctx ctx, c *api) (any, error) { return c.AddScanKey(ctx, client.ScanKey{}) }),
	"DeleteScanKey":      func(ctx ctx, c *api) error { return c.DeleteScanKey(ctx, "x") },
	"StoredRules": only(func(ctx ctx, c *api) (any, error) {
		return c.StoredRules(ctx, client.StoredRuleQuery{})
	}),
	"Occupiers":     only(func(ctx ctx, c *api) (any, error) { return c.Occupiers(ctx, "x") }),
	"CodeRuns":      only(func(ctx ctx, c *api) (any, error) { return c.CodeRuns(ctx, 1, client.CodeRange{}, 0) }),
	"ListCodes":     func(ctx ctx, c *api) error { return c.ListCodes(ctx, 1, client.CodeRange{}, io.Discard) },
	"AddRuleOf":     only(func(ctx ctx, c *api) (any, error) { return c.AddRuleOf(ctx, "x", client.OwnRule{}) }),
	"EditRuleOf":    only(func(ctx ctx, c *api) (any, error) { return c.EditRuleOf(ctx, "x", client.OwnRule{}) }),
	"PublishRuleOf": only(func(ctx ctx, c *api) (any, error) { return c.PublishRuleOf(ctx, "x", "x") }),
	"DeleteRuleOf":  only(func(ctx ctx, c *api) (any, error) { return c.DeleteRuleOf(ctx, "x", "x") }),
	"CheckRule":     only(func(ctx ctx, c *api) (any, error) { return c.CheckRule(ctx, "x", client.OwnRule{}, false) }),
	"RuleHistory":   only(func(ctx ctx, c *api) (any, error) { return c.RuleHistory(ctx, "x") }),
	"Notices":       only(func(ctx ctx, c *api) (any, error) { return c.Notices(ctx, "x", 0) }),
	"Confirmations": only(func(ctx ctx, c *api) (any, error) {
		return c.Confirmations(ctx, client.ConfirmationQuery{})
	}),
	"Scans":        only(func(ctx ctx, c *api) (any, error) { return c.Scans(ctx, "", 0) }),
	"RecordedScan": only(func(ctx ctx, c *api) (any, error) { return c.RecordedScan(ctx, "x") }),
	"EraseUser":    only(func(ctx ctx, c *api) (any, error) { return c.EraseUser(ctx, "", "x") }),
	"CodeScans":    only(func(ctx ctx, c *api) (any, error) { return c.CodeScans(ctx, 1, 1) }),
	"Statistics": only(func(ctx ctx, c *api) (any, error) {
		return c.Statistics(ctx, client.StatisticsQuery{})
	}),
	"Misses":           only(func(ctx ctx, c *api) (any, error) { return c.Misses(ctx, client.MissQuery{}) }),
	"Recount":          only(func(ctx ctx, c *api) (any, error) { return c.Recount(ctx) }),
	"Alarms":           only(func(ctx ctx, c *api) (any, error) { return c.Alarms(ctx, client.AlarmQuery{Open: true}) }),
	"DismissAlarm":     only(func(ctx ctx, c *api) (any, error) { return c.DismissAlarm(ctx, 1, "no copy", "x") }),
	"BatchAlarm":       only(func(ctx ctx, c *api) (any, error) { return c.BatchAlarm(ctx, 1) }),
	"PutBatchAlarm":    only(func(ctx ctx, c *api) (any, error) { return c.PutBatchAlarm(ctx, 1, client.BatchAlarmPut{Off: true}) }),
	"ReplayAlarms":     only(func(ctx ctx, c *api) (any, error) { return c.ReplayAlarms(ctx, 1, 100) }),
	"AcknowledgeAlarm": only(func(ctx ctx, c *api) (any, error) { return c.AcknowledgeAlarm(ctx, 1, "x") }),
	"Resolve":          only(func(ctx ctx, c *api) (any, error) { return c.Resolve(ctx, client.ScanRequest{}) }),
	"Explain": only(func(ctx ctx, c *api) (any, error) {
		return c.Explain(ctx, client.ExplainRequest{})
	}),
	"ImportRules": only(func(ctx ctx, c *api) (any, error) {
		return c.ImportRules(ctx, strings.NewReader("{}\n"), true)
	}),
	"ImportAccounts": only(func(ctx ctx, c *api) (any, error) {
		return c.ImportAccounts(ctx, strings.NewReader("{}\n"), true)
	}),
	"Export":         func(ctx ctx, c *api) error { return c.Export(ctx, "a passphrase", io.Discard) },
	"ExportRules":    func(ctx ctx, c *api) error { return c.ExportRules(ctx, io.Discard) },
	"ExportAccounts": func(ctx ctx, c *api) error { return c.ExportAccounts(ctx, io.Discard) },
	"ExportScans": func(ctx ctx, c *api) error {
		return c.ExportScans(ctx, "csv", client.ScanFilter{}, io.Discard)
	},
	"ExportStatistics": func(ctx ctx, c *api) error {
		return c.ExportStatistics(ctx, "csv", client.StatisticsQuery{}, io.Discard)
	},
	"ExportMisses": func(ctx ctx, c *api) error { return c.ExportMisses(ctx, "csv", client.MissQuery{}, io.Discard) },
	"ExportAlarms": func(ctx ctx, c *api) error { return c.ExportAlarms(ctx, "csv", "zh", client.AlarmQuery{}, io.Discard) },
	"ReleasePrefix": func(ctx ctx, c *api) error {
		_, _, err := c.ReleasePrefix(ctx, client.Release{})
		return err
	},
	"AllScans": func(ctx ctx, c *api) error {
		for _, err := range c.AllScans(ctx, "") {
			return err
		}
		return nil
	},
	"ResolveStream": func(ctx ctx, c *api) error {
		for _, err := range c.ResolveStream(ctx, slices.Values([]client.ScanRequest{{Text: "x"}})) {
			return err
		}
		return errors.New("no answer and no error")
	},

	"Token":       only(func(ctx ctx, c *api) (any, error) { return c.Token(ctx) }),
	"StableToken": only(func(ctx ctx, c *api) (any, error) { return c.StableToken(ctx, false) }),
	"AddRule":     func(ctx ctx, c *api) error { return c.AddRule(ctx, client.RuleDraft{}) },
	"EditRule":    func(ctx ctx, c *api) error { return c.EditRule(ctx, client.RuleDraft{}) },
	"PublishRule": func(ctx ctx, c *api) error { return c.PublishRule(ctx, "x") },
	"DeleteRule":  func(ctx ctx, c *api) error { return c.DeleteRule(ctx, "x", "") },
	"ListRules": only(func(ctx ctx, c *api) (any, error) {
		return c.ListRules(ctx, client.ListRequest{})
	}),
	"AllRules":     only(func(ctx ctx, c *api) (any, error) { return c.AllRules(ctx, "") }),
	"DownloadFile": only(func(ctx ctx, c *api) (any, error) { return c.DownloadFile(ctx) }),
	"ApplyCodes":   only(func(ctx ctx, c *api) (any, error) { return c.ApplyCodes(ctx, 10_000, "x") }),
	"QueryApplication": only(func(ctx ctx, c *api) (any, error) {
		return c.QueryApplication(ctx, client.ApplicationKey{ID: 1})
	}),
	"ActivateCodes": func(ctx ctx, c *api) error {
		return c.ActivateCodes(ctx, 1, client.CodeRange{}, client.CodeBinding{})
	},
	"QueryCode":   only(func(ctx ctx, c *api) (any, error) { return c.QueryCode(ctx, client.CodeName{}) }),
	"TradeTicket": only(func(ctx ctx, c *api) (any, error) { return c.TradeTicket(ctx, "x", "x") }),
	"DownloadCodes": func(ctx ctx, c *api) error {
		p, err := c.DownloadCodes(ctx, 1, client.CodeRange{})
		if err == nil {
			p.Close()
		}
		return err
	},
}

func only(call func(ctx, *api) (any, error)) func(ctx, *api) error {
	return func(ctx ctx, c *api) error {
		_, err := call(ctx, c)
		return err
	}
}

// noCalls are the methods of a Client that ask nobody.
var noCalls = []string{"URL"}

// Issue 11, 4: no call takes another program's answer for its own. A method
// without a line above fails this test.
func TestNoCallBelievesAStranger(t *testing.T) {
	methods := reflect.TypeFor[*client.Client]()
	for method := range methods.Methods() {
		if name := method.Name; everyCall[name] == nil && !slices.Contains(noCalls, name) {
			t.Errorf("%s is not in everyCall", name)
		}
	}
	for what, answer := range map[string]func(http.ResponseWriter){
		"hello": func(w http.ResponseWriter) { io.WriteString(w, `{"hello":1}`) },
		"hello as JSON": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"hello":1}`)
		},
		"an object":  func(w http.ResponseWriter) { io.WriteString(w, `{}`) },
		"a list":     func(w http.ResponseWriter) { io.WriteString(w, `[]`) },
		"null":       func(w http.ResponseWriter) { io.WriteString(w, `null`) },
		"nothing":    func(http.ResponseWriter) {},
		"no content": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"a page":     func(w http.ResponseWriter) { io.WriteString(w, `<html>It works!</html>`) },
		"errcode": func(w http.ResponseWriter) {
			io.WriteString(w, `{"errcode":40066,"errmsg":"invalid url rid: 5f87eb8a-6ee66b1b-75f60c88"}`)
		},
		"not found":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound); io.WriteString(w, `<html>404</html>`) },
		"another place": func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(http.StatusFound) },
	} {
		stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			answer(w)
		}))
		c := connect(t, stranger.URL, client.Options{AccessToken: "t", AdminToken: "a", AppID: "x", Secret: "x"})
		for name, call := range everyCall {
			err := call(t.Context(), c)
			wrong, isWrong := errors.AsType[*client.WrongServer](err)
			refusal, isWire := errors.AsType[*client.WireError](err)
			switch {
			case isWire && what == "errcode" && refusal.Code == 40066:
			case what == "nothing" && unreachable(err): // a stream that ends before it began
			case !isWrong || wrong.URL != stranger.URL, !strings.Contains(err.Error(), stranger.URL), strings.Contains(err.Error(), "\n"):
				t.Errorf("%s: %s gave %v", what, name, err)
			}
		}
		stranger.Close()
	}
	c := connect(t, "http://127.0.0.1:1", client.Options{AccessToken: "t"})
	for name, call := range everyCall {
		if err := call(t.Context(), c); !unreachable(err) {
			t.Errorf("nobody there: %s gave %v", name, err)
		}
	}
}

func unreachable(err error) bool {
	_, ok := errors.AsType[*client.Unreachable](err)
	return ok
}

// The client demands no field that the document of the APIs lets a server leave
// out: each call is answered with as little as its schema allows.
func TestEveryCallTakesTheLeastThatTheSchemaAllows(t *testing.T) {
	resp, err := http.Get(start(t) + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc document
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	least := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		kind, body := doc.least(r.Method, r.URL.Path)
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	}))
	defer least.Close()
	c := connect(t, least.URL, client.Options{})
	for name, call := range everyCall {
		err := call(t.Context(), c)
		if _, notOurs := errors.AsType[*client.WrongServer](err); err != nil && (!notOurs || !strings.Contains(err.Error(), " wire (")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// document is the part of an OpenAPI document that says what is answered.
type document struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema schema }
		}
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Properties map[string]schema
	Required   []string
	Items      *schema
}

// least is the least that a path may answer; "" = it has no such path.
func (d document) least(method, path string) (kind string, body []byte) {
	switch path {
	case "/admin/v1/settings": // the document says nothing of it
		return "application/json", []byte(`{"verification":"fetch"}`)
	case "/scan/v1/explain": // nor of the decision in it
		return "application/json", []byte(`{"action":"show_text","steps":[]}`)
	}
	for pattern, operations := range d.Paths {
		form := regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(pattern), `[^/]+`) + "$")
		one, ok := operations[strings.ToLower(method)]
		if !ok || !form.MatchString(path) || strings.Contains(pattern, "{") && d.Paths[path] != nil {
			continue
		}
		for _, kind := range []string{"application/json", "application/gzip", "application/x-ndjson", "text/csv", "application/age"} {
			if content, ok := one.Responses["200"].Content[kind]; ok {
				text, _ := json.Marshal(d.value(content.Schema))
				return kind, text
			}
		}
	}
	return "", []byte("no such path")
}

func (d document) value(s schema) any {
	if _, name, ok := strings.Cut(s.Ref, "#/components/schemas/"); ok {
		return d.value(d.Components.Schemas[name])
	}
	kind := s.Type
	if list, ok := kind.([]any); ok {
		kind = list[0]
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case kind == "array":
		return []any{d.value(*s.Items)}
	case kind == "object":
		object := map[string]any{}
		for _, name := range s.Required {
			object[name] = d.value(s.Properties[name])
		}
		return object
	case kind == "string" && s.Format == "date-time":
		return "2026-01-15T10:00:00Z"
	case kind == "integer" || kind == "number":
		return 0
	case kind == "boolean":
		return false
	}
	return "x"
}

// A field that is missing is named, wherever it stands.
func TestWhatIsMissingIsNamed(t *testing.T) {
	for answer, flaw := range map[string]string{
		`{"changes":[{"seq":1}]}`: `(changes[0].at is missing in {"changes":[{"seq":1}]})`,
		`{"changes":[]}`:          "",
		`{"changes":null}`:        "",
		`{"changes":{}}`:          "(json: cannot unmarshal object into Go struct field RuleChanges.changes of type []client.RuleChange in {",
		`{"changes":[],"errcode":40066,"errmsg":"invalid url"}`:                                          "(errcode 40066 invalid url)",
		`{"changes":[{"seq":1,"at":"2026-01-15T10:00:00Z","actor":"a","did":"add","rule":{"id":null}}]}`: "(changes[0].rule.id is missing",
		`{"changes":[]`: `(no JSON object: {"changes":[])`,
	} {
		s := &stub{answers: []func(*http.Request) (int, string){says(200, answer)}}
		_, err := connect(t, "http://x", client.Options{HTTP: &http.Client{Transport: s}}).RuleHistory(t.Context(), "p")
		want := "GET /admin/v1/rules/history: http://x does not answer like the admin API "
		if flaw == "" && err != nil || flaw != "" && !strings.HasPrefix(fmt.Sprint(err), want+flaw) {
			t.Errorf("%s: got %v, want %s%s", answer, err, want, flaw)
		}
	}
}

// Each API may have an address of its own.
func TestEachAPIIsAskedWhereItIs(t *testing.T) {
	asked := map[string]string{}
	echo := roundTrip(func(r *http.Request) (*http.Response, error) {
		asked[r.URL.Path] = r.URL.Host
		return nil, errors.New("asked")
	})
	c := connect(t, "http://wire", client.Options{AccessToken: "t", AdminURL: "http://admin/", ScanURL: "http://scan",
		HTTP: &http.Client{Transport: echo}})
	for name, url := range map[string]string{"PublishRule": "http://wire", "Account": "http://admin", "VerifyAudit": "http://admin",
		"Resolve": "http://scan", "ResolveStream": "http://scan", "Export": "http://admin"} {
		if u, ok := errors.AsType[*client.Unreachable](everyCall[name](t.Context(), c)); !ok || u.URL != url {
			t.Errorf("%s: got %v, want nobody at %s", name, u, url)
		}
	}
	if len(asked) != 5 {
		t.Errorf("asked %v", asked)
	}
	_, err := client.New("http://wire", client.Options{AdminURL: "admin:8081"})
	if err == nil || !strings.HasPrefix(err.Error(), `admin-server "admin:8081"`) {
		t.Errorf("got %v", err)
	}
}

// While nodes are replaced one after the other, today's client meets servers
// that do not answer what is new: these are their answers of before.
func TestAnOlderServerIsNoStranger(t *testing.T) {
	for path, answer := range map[string]string{
		"POST /admin/v1/batches/1/states":      `{"codes":5}`,
		"POST /admin/v1/batches/1/withdrawals": `{"codes":5}`,
		"POST /admin/v1/batches/1/retarget":    `{"activations":2}`,
		"POST /admin/v1/statistics/recount":    `{"scans":1,"duplicates":0,"compared":1,"differences":0,"shown":[]}`,
		"GET /admin/v1/scans":                  `{"scans":[],"next":"","more":false}`,
		"DELETE /admin/v1/scan-keys/x":         "",
	} {
		old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.Method + " " + r.URL.Path {
			case path:
				_, _ = io.WriteString(w, answer)
			case "GET /admin/v1/scan-keys":
				_, _ = io.WriteString(w, `{"keys":[]}`)
			default:
				t.Errorf("%s: asked for %s %s", path, r.Method, r.URL)
			}
		}))
		c := connect(t, old.URL, client.Options{AdminToken: "a"})
		var err error
		switch strings.Split(path, "/")[len(strings.Split(path, "/"))-1] {
		case "states":
			var n client.CodesChanged
			if n, err = c.ChangeCodes(t.Context(), 1, client.Void, client.CodeChange{}); n.Codes != 5 || n.Changed != nil {
				t.Errorf("states: %+v", n)
			}
		case "withdrawals":
			_, err = c.WithdrawCodes(t.Context(), 1, time.Time{}, client.CodeChange{})
		case "retarget":
			var n client.CodesRetargeted
			if n, err = c.RetargetCodes(t.Context(), 1, client.CodeRange{From: 3, To: 9}, "x", "x", 0, ""); n.Codes != 7 ||
				n.Changed != nil {
				t.Errorf("retarget: %+v", n)
			}
		case "recount":
			_, err = c.Recount(t.Context())
		case "scans":
			if _, err = c.NewestScans(t.Context(), 5); !errors.Is(err, client.ErrNoNewest) {
				t.Errorf("newest: %v", err)
			}
			_, err = c.Scans(t.Context(), "", 0)
		case "x":
			err = c.DeleteScanKey(t.Context(), "x")
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		old.Close()
	}
}
