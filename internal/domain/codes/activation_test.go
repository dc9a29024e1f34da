package codes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCoverage_EqualsArrayModel compares coverage with an array of the last event of each index, after every random call.
func TestCoverage_EqualsArrayModel(t *testing.T) {
	t.Parallel()
	const indexes = 200
	random := rand.New(rand.NewPCG(7, 7))
	histories := 4_000
	if testing.Short() {
		histories = 400
	}
	for history := range histories {
		var c coverage
		var model [indexes]*Event
		for call := 1; call <= 1+random.IntN(30); call++ {
			from := random.Int64N(indexes)
			r := Range{from, from + random.Int64N(indexes-from)}
			if random.IntN(3) == 0 { // short ranges split earlier ones
				r.To = min(from+random.Int64N(4), indexes-1)
			}
			event := &Event{Seq: int64(call)}
			if random.IntN(4) == 0 {
				event = nil // a deactivation
			}
			c.cover(r, event)
			for i := r.From; i <= r.To; i++ {
				model[i] = event
			}
			for i, want := range model {
				if got := c.eventAt(int64(i)); got != want {
					t.Fatalf("history %d, call %d of %v: event of index %d = %v, want %v", history, call, r, i, got, want)
				}
			}
			n := c.spans.Len()
			require.True(t, n <= 2*call+1, "history %d: %d spans after %d calls", history, n, call)
			next := int64(0)
			for _, from := range c.spans.Keys() {
				s, _ := c.spans.Get(from)
				require.True(t, from >= next && s.to >= from,
					"history %d: the span %d..%d overlaps the one before it, to %d", history, from, s.to, next-1)
				next = s.to + 1
			}
		}
		require.True(t, c.eventAt(-1) == nil && c.eventAt(indexes) == nil, "history %d: indexes outside the range have an event, want none",
			history)
	}
}

// Contract: marketcode 3.4.
func TestBinding_Validation(t *testing.T) {
	t.Parallel()
	good := Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "test_code", WxaAppID: "wx3sxjifjwojfsffef",
		WxaPath: "pages/index/index"}
	long := strings.Repeat("名", 128)
	for _, c := range []struct {
		name   string
		change func(*Binding)
		code   *errcode.Code
		detail string
	}{
		{"the sample", func(*Binding) {}, errcode.OK, ""},
		{"128 characters everywhere", func(b *Binding) {
			b.ActivityName, b.ProductBrand, b.ProductTitle, b.ProductCode, b.WxaPath, b.WxaAppID = long, long, long, long, long,
				strings.Repeat("w", 32)
		}, errcode.OK, ""},
		{"no activity_name", func(b *Binding) { b.ActivityName = "" }, errcode.InvalidArgs,
			"activity_name invalid: want 1 to 128 characters"},
		{"no product_brand", func(b *Binding) { b.ProductBrand = "" }, errcode.InvalidArgs, "product_brand"},
		{"no product_title", func(b *Binding) { b.ProductTitle = "" }, errcode.InvalidArgs, "product_title"},
		{"no product_code", func(b *Binding) { b.ProductCode = "" }, errcode.InvalidArgs, "product_code"},
		{"no wxa_path", func(b *Binding) { b.WxaPath = "" }, errcode.InvalidArgs, "wxa_path"},
		{"129 characters", func(b *Binding) { b.ProductTitle = long + "x" }, errcode.InvalidArgs, "product_title"},
		{"a control character", func(b *Binding) { b.WxaPath = "pages\x7f" }, errcode.InvalidArgs, "wxa_path"},
		{"no wxa_appid", func(b *Binding) { b.WxaAppID = "" }, errcode.InvalidArgs, "wxa_appid is missing"},
		{"a malformed wxa_appid", func(b *Binding) { b.WxaAppID = "wx 1" }, errcode.InvalidAppID, "wxa_appid"},
		{"a wxa_appid of 33 characters", func(b *Binding) { b.WxaAppID = strings.Repeat("w", 33) }, errcode.InvalidAppID, "wxa_appid"},
		{"wxa_type 3", func(b *Binding) { b.WxaType = 3 }, errcode.InvalidArgs, "wxa_type is 3: want 0, 1 or 2"},
		{"wxa_type -1", func(b *Binding) { b.WxaType = -1 }, errcode.InvalidArgs, "wxa_type is -1"},
	} {
		b := good
		c.change(&b)
		code, detail := errcode.FromError(b.check())
		assert.True(t, code == c.code && strings.Contains(detail, c.detail), "%s: %v %s, want %v %q", c.name, code, detail, c.code,
			c.detail)
	}
	for _, c := range []struct {
		wxaType int
		role    accounts.Role
		want    string
	}{
		{WxaRelease, "", "release true"}, {WxaRelease, accounts.Developer, "release true"},
		{WxaDevelopment, "", "development false"}, {WxaDevelopment, accounts.Developer, "development true"},
		{WxaDevelopment, accounts.TrialUser, "development false"},
		{WxaTrial, "", "trial false"}, {WxaTrial, accounts.TrialUser, "trial true"}, {WxaTrial, accounts.Developer, "trial true"},
		{WxaTrial, accounts.Admin, "trial true"},
	} {
		v, allowed := Binding{WxaType: c.wxaType}.Version(c.role)
		assert.Equal(t, fmt.Sprint(v, " ", allowed), c.want, "wxa_type %d for %q", c.wxaType, c.role)
	}
}
