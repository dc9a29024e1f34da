package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// An operator makes an account, which then calls the wire with its secret.
func ExampleAccountsService_Set() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{}) // with an AdminToken, where the server wants one
	if err != nil {
		log.Fatal(err)
	}
	err = operator.Accounts.Set(ctx, "wxteahouse", client.AccountPut{Kind: "mini_program", Name: "Tea", Versions: []string{"release"},
		JumpOpen: true, Secret: "tea-secret"})
	if err != nil {
		log.Fatal(err)
	}
	tea, err := client.New(url, client.Options{AppID: "wxteahouse", Secret: "tea-secret"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tea.Wire.CreateRule(ctx, client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/table/table"}))
	// Output: <nil>
}

// Abilities says what an account may do, and what is missing where it may not.
func ExampleAccountsService_ListAbilities() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	teahouse := client.AccountPut{Kind: "mini_program", Secret: "tea-secret", JumpOpen: true}
	if err := operator.Accounts.Set(ctx, "wxteahouse", teahouse); err != nil {
		log.Fatal(err)
	}
	abilities, err := operator.Accounts.ListAbilities(ctx, "wxteahouse")
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range abilities {
		for _, need := range a.Requirements {
			if !need.Fulfilled {
				fmt.Println(a.Ability, "needs", need.Requirement)
			}
		}
	}
	// Output:
	// publish needs released
	// open needs released
}

// A refusal of the admin API or the scan API is a Problem: a status, and a text that
// says what to do.
func ExampleProblem() {
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = operator.Accounts.Get(context.Background(), "wxnobody")
	if refused, ok := errors.AsType[*client.Problem](err); ok {
		fmt.Println(refused.Status, refused.Title)
	}
	// Output: 404 Not Found
}

// With IfMatch a change is made only if nobody changed the thing since it was read.
func ExampleIfMatch() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	read, err := operator.Accounts.Get(ctx, "wxc0ffee0000000001")
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Accounts.SetRulesEnabled(ctx, "wxc0ffee0000000001", false); err != nil { // somebody else is quicker
		log.Fatal(err)
	}
	want := read.Put()
	want.Name = "Coffee and tea"
	err = operator.Accounts.Set(client.IfMatch(ctx, read.Revision), "wxc0ffee0000000001", want)
	if changed := client.PreconditionFailed(err); changed != nil {
		fmt.Println(changed.Status, changed.Changes[0].Fields)
	}
	// Output: 412 [jump_open]
}

// Rules come and go as lines of JSON, all of them or none. A dry run only says what
// would happen.
func ExampleRulesService_Import() {
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	lines := `{"owner": "wxc0ffee0000000001", "prefix": "https://tea.example/t/", "path": "pages/table/table", "published": true}
{"owner": "wxc0ffee0000000001", "prefix": "https://coffee.example/t/", "path": "pages/table/table", "published": true}
`
	done, err := operator.Rules.Import(context.Background(), strings.NewReader(lines), true)
	fmt.Println(done.Added, done.Unchanged, done.DryRun, err)
	// Output: 1 1 true <nil>
}

// Statistics counts scans; Wait counts those first that were made just now.
func ExampleStatisticsService_Get() {
	ctx := context.Background()
	c, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"https://coffee.example/t/7", "https://coffee.example/t/8", "https://nobody.example/"} {
		if _, err := c.Scans.Resolve(ctx, client.ScanRequest{Text: text}); err != nil {
			log.Fatal(err)
		}
	}
	answer, err := c.Statistics.Get(ctx, client.StatisticsQuery{Group: "app", Wait: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range answer.Rows {
		fmt.Printf("%q %d\n", row.Value, row.Scans)
	}
	// Output:
	// "wxc0ffee0000000001" 2
	// "" 1
}

// A setting is changed by its name, as in a seed file, while the server runs.
func ExampleSettingsService_Update() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Settings.Update(ctx, map[string]any{"publish_quota": 3}); err != nil {
		log.Fatal(err)
	}
	quota, err := operator.Accounts.GetQuota(ctx, "wxc0ffee0000000001")
	fmt.Println(quota.PublishesLeft, err)
	// Output: 3 <nil>
}

// A fault makes calls fail on purpose, so that a caller's retry can be tried.
func ExampleEmulatorService_CreateFault() {
	ctx := context.Background()
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	err = shop.Emulator.CreateFault(ctx, client.Fault{Path: "/cgi-bin/wxopen/qrcodejumpdownload", ErrCode: -1, Remaining: new(1)})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		_, err := shop.Wire.GetVerificationFile(ctx)
		refused, ok := errors.AsType[*client.WireError](err)
		fmt.Println(ok && refused.Code == -1, err == nil)
	}
	// Output:
	// true false
	// false true
}

// Calls shows what reached the wire, with the reason of a refusal; secrets are masked.
func ExampleCallsService_List() {
	ctx := context.Background()
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	_ = shop.Wire.PublishRule(ctx, "https://nobody.example/t/")
	page, err := shop.Calls.List(ctx, client.CallQuery{Failed: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, call := range page.Calls {
		fmt.Println(call.ErrCode, call.Detail)
	}
	// Output: 40097 wxc0ffee0000000001 has no rule with the prefix "https://nobody.example/t/"
}
