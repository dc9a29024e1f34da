package accounts_test

import (
	"errors"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestLinkRequest_Status(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name string
		from accounts.LinkStatus
		hold bool
		want accounts.LinkStatus
		code *errcode.Code
	}{
		{"a new link is done immediately", 0, false, accounts.LinkDone, nil},
		{"a new link that is held waits for the account's administrator", 0, true, accounts.LinkAwaitsAccount, nil},
		{"after a refusal it may be requested again", accounts.LinkRefused, true, accounts.LinkAwaitsAccount, nil},
		{"after a refusal it is done immediately if links are no longer held", accounts.LinkRefused, false, accounts.LinkDone, nil},
		{"a link that is done", accounts.LinkDone, false, accounts.LinkDone, errcode.HasLinked},
		{"a link that waits for the account", accounts.LinkAwaitsAccount, true, accounts.LinkAwaitsAccount, errcode.LinkSent},
		{"a link that waits for the Mini Program", accounts.LinkAwaitsMiniProgram, false, accounts.LinkAwaitsMiniProgram, errcode.LinkSent},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := accounts.Link{Status: c.from}.Request(c.hold, now)
			require.True(t, (c.code != nil || err == nil) && (c.code == nil || errors.Is(err, c.code)), "got %v, want %v", err, c.code)
			assert.True(t, got.Status == c.want && (err != nil || got.CreatedAt.Equal(now)), "Request() = %+v, want status %d", got, c.want)
		})
	}
}

// Behaviour(link.refused).
func TestLinkConfirm_Status(t *testing.T) {
	const account, mini, invalid = accounts.AccountSide, accounts.MiniProgramSide, accounts.LinkStatus(-1)
	for _, c := range []struct {
		name  string
		from  accounts.Link
		side  accounts.Side
		agree bool
		want  accounts.LinkStatus // 0 if the link is deleted
	}{
		{"the account agrees first", accounts.Link{Status: accounts.LinkAwaitsAccount}, account, true, accounts.LinkAwaitsMiniProgram},
		{"then the Mini Program", accounts.Link{Status: accounts.LinkAwaitsMiniProgram}, mini, true, accounts.LinkDone},
		{"the account refuses", accounts.Link{Status: accounts.LinkAwaitsAccount}, account, false, accounts.LinkRefused},
		{"the Mini Program refuses", accounts.Link{Status: accounts.LinkAwaitsMiniProgram}, mini, false, accounts.LinkRefused},
		{"the Mini Program before the account", accounts.Link{Status: accounts.LinkAwaitsAccount}, mini, true, invalid},
		{"the account twice", accounts.Link{Status: accounts.LinkAwaitsMiniProgram}, account, true, invalid},
		{"a link that is done", accounts.Link{Status: accounts.LinkDone}, mini, true, invalid},
		{"a link that was refused", accounts.Link{Status: accounts.LinkRefused}, mini, true, invalid},
		{"no link", accounts.Link{}, account, true, invalid},
		{"no such side", accounts.Link{Status: accounts.LinkAwaitsAccount}, "both", true, invalid},
		{"the account agrees to the end", accounts.Link{Status: accounts.LinkDone, Unlinking: true}, account, true, 0},
		{"the account keeps the link", accounts.Link{Status: accounts.LinkDone, Unlinking: true}, account, false, accounts.LinkDone},
		{"the Mini Program about the end", accounts.Link{Status: accounts.LinkDone, Unlinking: true}, mini, true, invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.from.Confirm(c.side, c.agree)
			_, ok := errors.AsType[accounts.Invalid](err)
			require.Equal(t, ok, c.want == invalid, "Confirm: %v, Invalid error", err)
			if c.want == invalid {
				return
			}
			assert.True(t, got.Status == c.want && !got.Unlinking, "Confirm() = %+v, want status %d", got, c.want)
		})
	}
}

func TestLinkEnd_Status(t *testing.T) {
	for _, c := range []struct {
		name string
		from accounts.Link
		hold bool
		ends bool
		code *errcode.Code
	}{
		{"a link that is done ends immediately", accounts.Link{Status: accounts.LinkDone}, false, true, nil},
		{"the end waits if links are held", accounts.Link{Status: accounts.LinkDone}, true, false, nil},
		{"the end twice", accounts.Link{Status: accounts.LinkDone, Unlinking: true}, true, false, errcode.UnlinkSent},
		{"the end twice, no longer held", accounts.Link{Status: accounts.LinkDone, Unlinking: true}, false, false, errcode.UnlinkSent},
		{"a link that waits is withdrawn", accounts.Link{Status: accounts.LinkAwaitsMiniProgram}, true, true, nil},
		{"a link that was refused is withdrawn", accounts.Link{Status: accounts.LinkRefused}, true, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.from.End(c.hold)
			require.True(t, (c.code != nil || err == nil) && (c.code == nil || errors.Is(err, c.code)), "got %v, want %v", err, c.code)
			ended := got.Status == 0
			assert.True(t, ended == c.ends && (err != nil || ended || got.Unlinking), "End() = %+v, ended %t, want %t", got, ended, c.ends)
		})
	}
}

func TestLaunchAddress_SchemeTemplate(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[string]string{
		"app://{appid}/{path}?{query}": "app://a%2Fb/p%2Fq%20r?x%3D%7Bpath%7D%26y%3D%2520", "app:open": "app:open", "": "", "https://x": "",
	} {
		got, ok := accounts.Account{AppID: "a/b", URLScheme: scheme}.LaunchAddress("p/q r?x={path}&y=%20")
		assert.True(t, ok == (want != "") && got == want, "LaunchAddress with %q = %q, %v, want %q", scheme, got, ok, want)
	}
}
