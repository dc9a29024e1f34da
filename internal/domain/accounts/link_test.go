package accounts

import (
	"errors"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestLinkRequest_Status(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name string
		from LinkStatus
		hold bool
		want LinkStatus
		code *errcode.Code
	}{
		{"a new link is done at once", 0, false, LinkDone, nil},
		{"a new link that is held waits for the account's administrator", 0, true, LinkAwaitsAccount, nil},
		{"after a refusal it may be asked for again", LinkRefused, true, LinkAwaitsAccount, nil},
		{"after a refusal it is done at once where nothing is held any more", LinkRefused, false, LinkDone, nil},
		{"a link that is done", LinkDone, false, LinkDone, errcode.HasLinked},
		{"a link that waits for the account", LinkAwaitsAccount, true, LinkAwaitsAccount, errcode.LinkSent},
		{"a link that waits for the Mini Program, held no more", LinkAwaitsMiniProgram, false, LinkAwaitsMiniProgram, errcode.LinkSent},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Link{Status: c.from}.Request(c.hold, now)
			require.True(t, (c.code != nil || err == nil) && (c.code == nil || errors.Is(err, c.code)), "got %v, want %v", err, c.code)
			assert.True(t, got.Status == c.want && (err != nil || got.CreatedAt.Equal(now)), "got %+v, want status %d", got, c.want)
		})
	}
}

// Behaviour(link.refused).
func TestLinkConfirm_Status(t *testing.T) {
	const nothing = LinkStatus(-1)
	for _, c := range []struct {
		name  string
		from  Link
		side  Side
		agree bool
		want  LinkStatus // nothing = refused to decide, 0 = the link goes
	}{
		{"the account agrees first", Link{Status: LinkAwaitsAccount}, AccountSide, true, LinkAwaitsMiniProgram},
		{"then the Mini Program", Link{Status: LinkAwaitsMiniProgram}, MiniProgramSide, true, LinkDone},
		{"the account refuses", Link{Status: LinkAwaitsAccount}, AccountSide, false, LinkRefused},
		{"the Mini Program refuses", Link{Status: LinkAwaitsMiniProgram}, MiniProgramSide, false, LinkRefused},
		{"the Mini Program before the account", Link{Status: LinkAwaitsAccount}, MiniProgramSide, true, nothing},
		{"the account twice", Link{Status: LinkAwaitsMiniProgram}, AccountSide, true, nothing},
		{"a link that is done", Link{Status: LinkDone}, MiniProgramSide, true, nothing},
		{"a link that was refused", Link{Status: LinkRefused}, MiniProgramSide, true, nothing},
		{"no link", Link{}, AccountSide, true, nothing},
		{"no such side", Link{Status: LinkAwaitsAccount}, "both", true, nothing},
		{"the account agrees to the end", Link{Status: LinkDone, Unlinking: true}, AccountSide, true, 0},
		{"the account keeps the link", Link{Status: LinkDone, Unlinking: true}, AccountSide, false, LinkDone},
		{"the Mini Program is not asked about the end", Link{Status: LinkDone, Unlinking: true}, MiniProgramSide, true, nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.from.Confirm(c.side, c.agree)
			_, invalid := errors.AsType[Invalid](err)
			require.True(t, invalid == (c.want == nothing), "got %v", err)
			if c.want == nothing {
				return
			}
			assert.True(t, got.Status == c.want && !got.Unlinking, "got %+v, want status %d", got, c.want)
		})
	}
}

func TestLinkEnd_Status(t *testing.T) {
	for _, c := range []struct {
		name string
		from Link
		hold bool
		over bool
		code *errcode.Code
	}{
		{"a link that is done ends at once", Link{Status: LinkDone}, false, true, nil},
		{"held, it waits", Link{Status: LinkDone}, true, false, nil},
		{"asking for the end twice", Link{Status: LinkDone, Unlinking: true}, true, false, errcode.UnlinkSent},
		{"asking for the end twice, held no more", Link{Status: LinkDone, Unlinking: true}, false, false, errcode.UnlinkSent},
		{"a link that waits is withdrawn", Link{Status: LinkAwaitsMiniProgram}, true, true, nil},
		{"a refused one as well", Link{Status: LinkRefused}, true, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.from.End(c.hold)
			require.True(t, (c.code != nil || err == nil) && (c.code == nil || errors.Is(err, c.code)), "got %v, want %v", err, c.code)
			over := got.Status == 0
			assert.True(t, over == c.over && (err != nil || over || got.Unlinking), "got %+v, over %t", got, over)
		})
	}
}
