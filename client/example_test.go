package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
)

// A client adds and publishes a rule with the Mini Program's credentials. Then a scan of a link below its prefix opens the page.
func Example() {
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := shop.Wire.CreateRule(ctx, client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/table/table"}); err != nil {
		log.Fatal(err)
	}
	if err := shop.Wire.PublishRule(ctx, "https://tea.example/t/"); err != nil {
		log.Fatal(err)
	}
	d, err := shop.Scans.Resolve(ctx, client.ScanRequest{Text: "https://tea.example/t/7", User: "u-1"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Action, d.AppID, d.Version, d.Matched.Prefix)
	// Output: open_mini_program wxc0ffee0000000001 release https://tea.example/t/
}

// An error of the platform API is a WireError with a number. The log of calls has its reason.
func ExampleWireError() {
	ctx := context.Background()
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	err = shop.Wire.PublishRule(ctx, "https://nobody.example/t/")
	if wireErr, ok := errors.AsType[*client.WireError](err); ok {
		call, err := shop.Calls.Get(ctx, wireErr.RID) // with an AdminToken if the server requires one
		fmt.Println(wireErr.Code, wireErr.Message, err == nil && call.Endpoint == "/cgi-bin/wxopen/qrcodejumppublish")
	}
	// Output: 40097 invalid args true
}

// A service account applies for codes and activates a range for a page of a Mini Program. Then the codes are scanned.
func ExampleWireService_ActivateCodes() {
	ctx := context.Background()
	brand, err := client.New(url, client.Options{AppID: "wxc0ffee0000000002", Secret: "c0ffee00000000000000000000000002"})
	if err != nil {
		log.Fatal(err)
	}
	id, err := brand.Wire.ApplyCodes(ctx, 10_000, "order-1")
	if err != nil {
		log.Fatal(err)
	}
	err = brand.Wire.ActivateCodes(ctx, id, client.CodeRange{From: 0, To: 4999}, client.CodeBinding{ActivityName: "Spring",
		ProductBrand: "Tea", ProductTitle: "Green", ProductCode: "6901234567892",
		WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/item/item"})
	if err != nil {
		log.Fatal(err)
	}
	for _, index := range []int64{4999, 5000} {
		code, err := brand.Codes.Get(ctx, client.CodeName{ID: id, Index: index})
		if err != nil {
			log.Fatal(err)
		}
		d, err := brand.Scans.Resolve(ctx, client.ScanRequest{Text: code.CodeURL, User: "u-1"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(index, code.Active, d.Action)
	}
	// Output:
	// 4999 true open_mini_program
	// 5000 false show_message
}

// Explain returns, for each rule with a similar prefix, why it opens the link or why not.
func ExampleScansService_Explain() {
	ctx := context.Background()
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	if err := shop.Wire.CreateRule(ctx, client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/table/table"}); err != nil {
		log.Fatal(err)
	}
	e, err := shop.Scans.Explain(ctx, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: "https://tea.example/t/7"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Action)
	for _, step := range e.Steps {
		fmt.Println(step.Prefix, step.Verdict)
	}
	// Output:
	// open_url
	// https://tea.example/t/ unpublished
}

// A frozen clock changes only through Advance or SetClock.
func ExampleEmulatorService_FreezeClock() {
	ctx := context.Background()
	operator, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Emulator.FreezeClock(ctx); err != nil {
		log.Fatal(err)
	}
	before, err := operator.Emulator.GetClock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Emulator.Advance(ctx, 31*24*time.Hour); err != nil {
		log.Fatal(err)
	}
	after, err := operator.Emulator.GetClock(ctx)
	fmt.Println(after.Now.Sub(before.Now), after.Frozen, err)
	// Output: 744h0m0s true <nil>
}

// url is the address of a server with the demo accounts, for example of qrjump serve --dev.
var url = os.Getenv("QRJUMP_SERVER")

// TestMain runs the examples if QRJUMP_SERVER is set, on that server. The expected outputs are those of a new server:
// TestClientExamples_Output in package qrjumptest starts one for each example.
func TestMain(m *testing.M) {
	if url == "" {
		fmt.Println("no example runs: QRJUMP_SERVER is not set")
		return
	}
	os.Exit(m.Run())
}
