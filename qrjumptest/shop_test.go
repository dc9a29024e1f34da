package qrjumptest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/qrjumptest"
)

func TestShop_TableOpensPage(t *testing.T) {
	// A separate server for this test, on a free port. It stops when the test ends.
	srv := qrjumptest.Start(t, qrjumptest.Strict())

	// Your program calls srv.URL in place of the platform. In this example, the qrjump client takes its place.
	shop := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	err := shop.Wire.CreateRule(t.Context(), client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/table/table"})
	if err != nil {
		t.Fatal(err)
	}

	// The server returns "system error" once. A correct program retries.
	srv.Fail(qrjumptest.Fault{Path: "/cgi-bin/wxopen/qrcodejumppublish", ErrCode: -1, Remaining: new(1)})
	err = shop.Wire.PublishRule(t.Context(), "https://tea.example/t/")
	if refused, ok := errors.AsType[*client.WireError](err); !ok || refused.Code != -1 {
		t.Fatalf("the first try ended with %v", err)
	}
	if err := shop.Wire.PublishRule(t.Context(), "https://tea.example/t/"); err != nil {
		t.Fatal(err)
	}

	// A phone scans the code of a table.
	if d := srv.Scan("https://tea.example/t/7"); d.Action != "open_mini_program" || d.AppID != "wxc0ffee0000000001" {
		t.Errorf("it opens %+v", d)
	}

	// Three hours later the token has expired, so the program must get a new one.
	srv.Advance(3 * time.Hour)
	if err := shop.Wire.DeleteRule(t.Context(), "https://tea.example/t/", ""); err != nil {
		t.Error(err)
	}
}
