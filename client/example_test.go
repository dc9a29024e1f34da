package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

// A rule is added and published by the Mini Program's credentials; then a scan
// of a link below it opens the page.
func Example() {
	url, stop := demo()
	defer stop()

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

// A refusal of the wire has a type: its number decides, and the log of calls knows
// why.
func ExampleWireError() {
	url, stop := demo()
	defer stop()
	ctx := context.Background()
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	err = shop.Wire.PublishRule(ctx, "https://nobody.example/t/")
	if refused, ok := errors.AsType[*client.WireError](err); ok {
		call, err := shop.Calls.Get(ctx, refused.RID) // with the admin token, where the server wants one
		fmt.Println(refused.Code, refused.Message, err == nil && call.Endpoint == "/cgi-bin/wxopen/qrcodejumppublish")
	}
	// Output: 40097 invalid args true
}

// Codes are applied for, activated for a page, and scanned.
func ExampleWireService_ActivateCodes() {
	url, stop := demo()
	defer stop()
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
		ProductBrand: "Tea",
		ProductTitle: "Green", ProductCode: "6901234567892", WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/item/item"})
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

// Explain says of each rule that was near why it opens the link, or why not.
func ExampleScansService_Explain() {
	url, stop := demo()
	defer stop()
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

// A frozen clock shows the same time until it is moved.
func ExampleEmulatorService_FreezeClock() {
	url, stop := demo()
	defer stop()
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

// demo runs a server with the demo accounts, like qrjump serve --dev.
func demo() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	c := server.Default()
	c.Data, c.Listen, c.Dev = dir, "127.0.0.1:0", true
	s, err := server.Start(context.Background(), c, io.Discard, server.TestHooks{})
	if err != nil {
		log.Fatal(err)
	}
	return s.URL, func() {
		if err := s.Close(); err != nil {
			log.Print(err)
		}
		os.RemoveAll(dir)
	}
}
