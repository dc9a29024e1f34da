package qrjumptest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// A server begins with what a seed says, and stops with the test.
func ExampleStart() {
	t, done := newTest() // in a test of yours: func TestRedirect(t *testing.T)
	defer done()

	srv := qrjumptest.Start(t, qrjumptest.Seed(`
accounts:
  - {appid: shop, kind: mini_program, secret: s3cret-shop, versions: [release]}
rules:
  - {owner: shop, prefix: "https://tea.example/t/", path: pages/table/table, published: true}
`))
	// Point the SDK under test at srv.URL, in place of https://api.weixin.qq.com.
	d := srv.Scan("https://tea.example/t/7")
	fmt.Println(d.Action, d.AppID, d.Version)
	// Output: open_mini_program shop release
}

// As is a client for an account: here it does what the program under test would.
func ExampleServer_As() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t) // with the demo accounts
	shop := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	require.NoError(t, shop.Wire.CreateRule(t.Context(), client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/table/table"}))
	fmt.Println(srv.Scan("https://tea.example/t/7").Action)
	require.NoError(t, shop.Wire.PublishRule(t.Context(), "https://tea.example/t/"))
	fmt.Println(srv.Scan("https://tea.example/t/7").Action)
	// Output:
	// open_url
	// open_mini_program
}

// Codes are there without a call of the test's own.
func ExampleServer_Apply() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	codes := srv.Apply("wxc0ffee0000000002", "c0ffee00000000000000000000000002", 10_000)
	codes.Activate(0, 99, client.CodeBinding{ActivityName: "Spring", ProductBrand: "Tea", ProductTitle: "Green",
		ProductCode: "6901234567892", WxaAppID: "wxc0ffee0000000001", WxaPath: "pages/item/item"})
	fmt.Println(srv.ScanAs("alice", codes.Text(99)).Action)
	fmt.Println(srv.ScanAs("alice", codes.Text(100)).Action)
	// Output:
	// open_mini_program
	// show_message
}

// A fault answers in place of the server: does the program under test try again?
func ExampleServer_Fail() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	srv.Fail(qrjumptest.Fault{Path: "/cgi-bin/wxopen/qrcodejumpdownload", ErrCode: -1, Remaining: new(1)})
	shop := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	for range 2 {
		_, err := shop.Wire.GetVerificationFile(t.Context())
		refused, ok := errors.AsType[*client.WireError](err)
		fmt.Println(err == nil, ok && refused.Code == -1)
	}
	// Output:
	// false true
	// true false
}

// The clock moves when the test moves it: tokens end, and months begin.
func ExampleServer_Advance() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	shop := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	before, err := shop.Wire.GetStableToken(t.Context(), false)
	require.NoError(t, err)
	srv.Advance(3 * time.Hour)
	after, err := shop.Wire.GetStableToken(t.Context(), false)
	fmt.Println(before.AccessToken == after.AccessToken, err)
	// Output: false <nil>
}

// Two suites share a server: each brings back its own account and leaves the other's rules alone.
func ExampleServer_ResetAccounts() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	tea := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	err := tea.Wire.CreateRule(t.Context(), client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/t/t"})
	fmt.Println(err, srv.Explain("alice", "https://tea.example/t/7").Steps[0].Verdict)
	srv.ResetAccounts("wxc0ffee0000000002")
	fmt.Println(srv.Explain("alice", "https://tea.example/t/7").Steps[0].Verdict)
	srv.ResetAccounts("wxc0ffee0000000001")
	fmt.Println(srv.Explain("alice", "https://tea.example/t/7").Action, len(srv.Explain("alice", "https://tea.example/t/7").Steps))
	// Output:
	// <nil> unpublished
	// unpublished
	// open_url 0
}

// A fault with a response answers a path of the platform that this server does not have.
func ExampleServer_Faults() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	srv.Fail(qrjumptest.Fault{Path: "/cgi-bin/menu/get", Response: &client.FaultResponse{Body: []byte(`{"errcode":0,"menu":[]}`)}})
	fmt.Println(srv.Faults()[0].Path, srv.Faults()[0].TriggerCount)
	// Output: /cgi-bin/menu/get 0
}

// Explain says which rule opens a link, and of each rule near it why it does not.
func ExampleServer_Explain() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	e := srv.Explain("", "https://coffee.example/menu?table=7")
	fmt.Println(e.Action)
	for _, step := range e.Steps[:1] {
		fmt.Println(step.Prefix, step.Verdict)
	}
	// Output:
	// open_url
	// https://coffee.example/menu unpublished
}

// newTest stands for the *testing.T of a test, which an example does not have.
func newTest() (t testing.TB, done func()) {
	one := &exampleTest{}
	return one, func() {
		for i := len(one.ends) - 1; i >= 0; i-- {
			one.ends[i]()
		}
	}
}

type exampleTest struct {
	testing.TB
	ends []func()
}

func (t *exampleTest) Helper()                           {}
func (t *exampleTest) Context() context.Context          { return context.Background() }
func (t *exampleTest) Output() io.Writer                 { return io.Discard }
func (t *exampleTest) Cleanup(f func())                  { t.ends = append(t.ends, f) }
func (t *exampleTest) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleTest) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleTest) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

func (t *exampleTest) TempDir() string {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
