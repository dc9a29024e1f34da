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

// A server starts with the data of a seed, and stops when the test ends.
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

// As returns a client for an account. In this example it takes the place of the program under test.
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

// Apply creates codes without calls to the platform API in the test.
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

// Fail makes a call fail, to test whether the program under test retries.
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

// Advance moves the clock, so that tokens expire and quotas are renewed.
func ExampleServer_Advance() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	shop := srv.As("wxc0ffee0000000001", "c0ffee00000000000000000000000001")
	before := require.Value(shop.Wire.GetStableToken(t.Context(), false))(t)
	srv.Advance(3 * time.Hour)
	after, err := shop.Wire.GetStableToken(t.Context(), false)
	fmt.Println(before.AccessToken == after.AccessToken, err)
	// Output: false <nil>
}

// Two test suites share a server. Each resets its own account and keeps the rules of the other.
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

// A fault with a response replaces a path of the platform that the server does not implement.
func ExampleServer_Faults() {
	t, done := newTest()
	defer done()
	srv := qrjumptest.Start(t)
	srv.Fail(qrjumptest.Fault{Path: "/cgi-bin/menu/get", Response: &client.FaultResponse{Body: []byte(`{"errcode":0,"menu":[]}`)}})
	fmt.Println(srv.Faults()[0].Path, srv.Faults()[0].TriggerCount)
	// Output: /cgi-bin/menu/get 0
}

// Explain returns the rule that opens a link, and for each similar rule the reason why it does not.
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

// newTest returns a testing.TB for an example, which has no *testing.T. done runs its cleanup functions.
func newTest() (t testing.TB, done func()) {
	test := &exampleTest{}
	return test, test.end
}

type exampleTest struct{ recorder }

func (t *exampleTest) Helper()                           {}
func (t *exampleTest) Context() context.Context          { return context.Background() }
func (t *exampleTest) Output() io.Writer                 { return io.Discard }
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
