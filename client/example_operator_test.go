package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// An operator creates an account, which then calls the platform API with its secret.
func ExampleAccountsService_Set() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{}) // with an AdminToken if the server requires one
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

// ListAbilities returns what an account may do, with the requirements that are not fulfilled.
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

// An error of the admin API or the scan API is a Problem with a status and a text that contains the next step.
func ExampleProblem() {
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = operator.Accounts.Get(context.Background(), "wxnobody")
	if problem, ok := errors.AsType[*client.Problem](err); ok {
		fmt.Println(problem.Status, problem.Title)
	}
	// Output: 404 Not Found
}

// With IfMatch, a write fails if the object was changed after the read.
func ExampleIfMatch() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	account, err := operator.Accounts.Get(ctx, "wxc0ffee0000000001")
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Accounts.SetRulesEnabled(ctx, "wxc0ffee0000000001", false); err != nil { // a concurrent change
		log.Fatal(err)
	}
	put := account.Put()
	put.Name = "Coffee and tea"
	err = operator.Accounts.Set(client.IfMatch(ctx, account.Revision), "wxc0ffee0000000001", put)
	if changed := client.PreconditionFailed(err); changed != nil {
		fmt.Println(changed.Status, changed.Changes[0].Fields)
	}
	// Output: 412 [jump_open]
}

// Import reads rules as lines of JSON and adds all or none of them. A dry run only returns the effect.
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

// Get returns numbers of scans. With Wait, they include all scans before the call.
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

// Update changes settings of a running server. The names are those of a seed file.
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

// A fault makes calls fail, to test the retries of a caller.
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

// List returns the recorded calls of the platform API, with the reason of an error. Secrets are masked.
func ExampleCallsService_List() {
	ctx := context.Background()
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	_ = shop.Wire.PublishRule(ctx, "https://other.example/t/")
	page, err := shop.Calls.List(ctx, client.CallQuery{Failed: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, call := range page.Calls {
		fmt.Println(call.ErrCode, call.Detail)
	}
	// Output: 40097 wxc0ffee0000000001 has no rule with the prefix "https://other.example/t/"
}
