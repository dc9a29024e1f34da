package codes_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func (p *fixture) account(appid string) (a accounts.Account, ok bool) {
	err := p.store.ViewAccounts(p.t.Context(), func(tx accounts.Tx) (err error) {
		a, err = tx.Account(p.t.Context(), appid)
		return err
	})
	return a, err == nil
}

// scan returns the decision on text in one line: AppID, version and path, or the reason.
func (p *fixture) scan(text, user string) string {
	s, ok := p.Scan(text, user, p.account)
	switch {
	case !ok:
		return "another text"
	case s.Reason != "":
		return string(s.Reason)
	}
	return fmt.Sprint(s.AppID, " ", s.Version, " ", s.Path)
}

// replaceChar returns text with the character at i replaced: it has the form of an issued text, but was never issued.
func replaceChar(text string, i int) string {
	c := byte('A')
	if text[i] == c {
		c = 'B'
	}
	return text[:i] + string(c) + text[i+1:]
}

// Contract: marketcode 3.5, 5.2, 6.2.
// Behaviour(scan.code.unknown) Behaviour(scan.code.serial).
func TestCodeScan_TextKinds(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 100)
	text := p.Text(b, 7)
	dollar := text
	for i := int64(0); !strings.Contains(dollar, "$"); i++ {
		dollar = p.Text(b, i)
	}
	const opens = "shop release pages/index/index"
	tail := strings.TrimPrefix(text, codes.DefaultPrefix)
	for _, c := range []struct{ text, want string }{
		{text, opens}, {strings.ToLower(text), opens}, {"http://" + text, opens}, {"https://" + text, opens}, {"HTTPS://" + text, opens},
		{"hTtP://p.url.cn/" + strings.ToLower(tail), opens},
		{strings.ReplaceAll(dollar, "$", "%24"), opens}, {codes.DefaultPrefix + fmt.Sprintf("%%%02x", tail[0]) + tail[1:], opens},

		{p.Text(b, 100), "not_active"}, {"https://" + p.Text(b, 9_999), "not_active"},
		{replaceChar(text, 20), "unknown_code"}, {replaceChar(text, 27), "unknown_code"}, {codes.DefaultPrefix + "1" + tail[1:],
			"unknown_code"},
		{codes.DefaultPrefix + strings.Repeat("0", 19), "unknown_code"},

		{text + "?a=1", "another text"}, {text + "/", "another text"}, {text + "#", "another text"}, {" " + text, "another text"},
		{text + "\n", "another text"}, {text[1:], "another text"},
		{text[:27], "another text"}, {text + "0", "another text"}, {"http://http://" + text, "another text"},
		{"ftp://" + text, "another text"},
		{"http://p.url.cn/x/../" + tail, "another text"}, {"P.URL.CN//" + tail, "another text"}, {"P.URL.CN/./" + tail, "another text"},
		{"P.URL.CN:443/" + tail, "another text"}, {"me@" + text, "another text"},
		{codes.DefaultPrefix, "another text"}, {"", "another text"}, {"hello", "another text"}, {"https://shop.example/", "another text"},
		{codes.DefaultPrefix + strings.Repeat("%24", 18), "another text"}, {codes.DefaultPrefix + "%2", "another text"},
		{codes.DefaultPrefix + strings.Repeat("%00", 19), "another text"},
		{codes.DefaultPrefix + "0_an_ordinary_page_", "another text"}, {codes.DefaultPrefix + "0" + strings.Repeat("é", 9), "another text"},
		{codes.DefaultPrefix + strings.Repeat("ſ", 9) + "0", "another text"},

		{p.Code(b, 7), "serial_only"}, {strings.ToLower(p.Code(b, 7)), "serial_only"}, {p.Code(b, 5_000), "serial_only"},
		{p.Code(b, 7) + " ", "another text"}, {"044GZ*J10", "another text"}, {"someword", "another text"},
	} {
		assert.Equal(t, p.scan(c.text, "u-1"), c.want, "scan of %q", c.text)
	}
	// Published samples of the platform's texts have the same prefix and symbols that this server never issues.
	for _, sample := range []string{"0P$M%LZ4LHSVSDCR2L2", "0U.JYJXP3HJI2C98A9O", "0Q%L$BP4-J:G3I%BLV:", "0FQR/LZ6/0HD0Q7Y3-*",
		"0P$N*4B91XDA.N4X4E6", "0P$9HBPIHQ6QDO0FSF.", "0V/L$O*CBI/WJATNX+Y", "0+:IXDRUT/GF21DR$XA", "0ALL$V2QCNVRHYPO:K3"} {
		for _, spelling := range []string{"P.URL.CN/" + sample, "http://P.URL.CN/" + sample, "https://p.url.cn/" + strings.ToLower(sample),
			"http://p.url.cn/" + strings.NewReplacer("%", "%25", "$", "%24", ":", "%3A", "/", "%2f").Replace(sample)} {
			assert.Equal(t, p.scan(spelling, "u-1"), "unknown_code", "scan of %s", spelling)
		}
	}
}

// TestCodeScan_PublicTexts verifies that a text without a secret opens nothing, now and as of a past time.
func TestCodeScan_PublicTexts(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.Prefix = "HTTPS://Q.EXAMPLE/"
	template, err := p.FillTemplate(codes.TemplateOrder{Text: "https://q.example/s/{serial}{digits:6}", Weak: true, Count: 10_000})
	require.NoError(t, err)
	b := require.Value(p.Apply(t.Context(), p.owner, codes.Application{ISV: "public", Count: 10_000, Template: template}))(t)
	p.activate(b, 0, 99)
	for index, want := range map[int64]codes.Reason{7: codes.SerialOnly, 100: codes.NotActive} {
		current, _ := p.Scan(p.Text(b, index), "u", p.account)
		past, _, err := p.ScanAsOf(t.Context(), p.Text(b, index), "u", p.now(), p.account)
		assert.True(t, err == nil && current.Reason == want && past.Reason == want && current.AppID+past.AppID == "",
			"code %d: %q, as of this time %q, %v, want %q", index, current.Reason, past.Reason, err, want)
	}
}

// Behaviour(scan.code.state) Behaviour(scan.code.version).
func TestCodeScan_States(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	for i := range int64(4) {
		p.binding.WxaType = []int{codes.WxaRelease, codes.WxaDevelopment, codes.WxaTrial, codes.WxaRelease}[i]
		p.binding.WxaAppID = []string{"shop", "shop", "shop", "bare"}[i]
		p.binding.WxaPath = "/pages/index?from=code"
		p.activate(b, i*10, i*10+9)
	}
	for _, c := range []struct {
		index int64
		user  string
		want  string
	}{
		{0, "", "shop release pages/index?from=code"}, {0, "u", "shop release pages/index?from=code"},
		{10, "", "no_release"}, {10, "u", "no_release"}, {10, "tri", "no_release"}, {10, "adm", "no_release"},
		{10, "dev", "shop development pages/index?from=code"},
		{20, "u", "no_release"}, {20, "tri", "shop trial pages/index?from=code"}, {20, "adm", "shop trial pages/index?from=code"},
		{20, "dev", "shop trial pages/index?from=code"},
		{30, "u", "no_release"}, {40, "u", "not_active"},
	} {
		assert.Equal(t, p.scan(p.Text(b, c.index), c.user), c.want, "index %d by %q", c.index, c.user)
	}
	for _, c := range []struct {
		action codes.EventType
		want   string
	}{
		{codes.Freeze, "frozen"}, {codes.Unfreeze, "shop release pages/index?from=code"},
		{codes.Redeem, "shop release pages/index?from=code"}, {codes.Deactivate, "not_active"},
		{codes.Freeze, "frozen"}, {codes.Void, "void"}, {codes.Unfreeze, "void"}, {codes.Activate, "void"},
	} {
		require.NoError(t, p.change(b, c.action, single(5)))
		assert.Equal(t, p.scan(p.Text(b, 5), ""), c.want, "after %s", c.action)
		assert.Equal(t, p.scan(p.Code(b, 5), ""), "serial_only", "scan of the nine characters after %s", c.action)
	}
	got := p.scan(p.Text(b, 4), "")
	assert.True(t, strings.HasPrefix(got, "shop"), "scan of another code of the activation = %q, want shop", got)
}

// TestCodeScan_FormerPrefix verifies that printed texts are found under the prefix they were printed with after the server got another
// prefix, was restarted, or was closed for new codes.
func TestCodeScan_FormerPrefix(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	p.Closed = true
	assert.Equal(t, p.scan(codes.DefaultPrefix+strings.Repeat("0", 19), ""), "another text", "scan on a server without codes")
	p.Closed = false
	former := p.apply("former", 10_000)
	p.activate(former, 0, 9)
	p.Prefix = "HTTPS://B.EXAMPLE/C/"
	current := p.apply("current", 10_000)
	p.activate(current, 0, 9)
	const opens = "shop release pages/index/index"
	check := func(when string) {
		t.Helper()
		for text, want := range map[string]string{
			p.Text(former, 3): opens, "http://" + p.Text(former, 3): opens, p.Text(current, 3): opens,
			strings.ToLower(p.Text(current, 3)):                opens,
			strings.TrimPrefix(p.Text(current, 3), "HTTPS://"): opens, "https://b.example/c/" + strings.Repeat("0", 19): "unknown_code",
			"https://b.example/d/" + strings.Repeat("0", 19): "another text",
		} {
			assert.Equal(t, p.scan(text, ""), want, "%s: scan of %s", when, text)
		}
		f, err := p.Lookup(t.Context(), codes.CodeName{URL: p.Text(former, 3)})
		assert.True(t, err == nil && f.Batch.ID == former.ID && f.Index == 3, "%s: %+v, %v", when, f, err)
	}
	require.True(t, strings.HasPrefix(p.Text(former, 3), "P.URL.CN/") && strings.HasPrefix(p.Text(current, 3), "HTTPS://B.EXAMPLE/C/"),
		"%s, %s", p.Text(former, 3), p.Text(current, 3))
	check("before a restart")
	p.close()
	p.open()
	check("under the first prefix after a restart")
	p.Prefix = "C.EXAMPLE/"
	check("under a third prefix")
	// Without --dev and --code-prefix no new codes are issued; printed texts open.
	p.Prefix, p.Closed = codes.DefaultPrefix, true
	check("closed")
	p.close()
	p.open()
	p.Closed = true
	check("closed after a restart")
}

// FuzzScanCode verifies that among all scanned texts only printed texts of active codes open a page.
func FuzzScanCode(f *testing.F) {
	p := newFixture(f)
	shop, _ := p.account("shop")
	account := func(appid string) (accounts.Account, bool) { return shop, appid == "shop" }
	former := p.apply("former", 10_000)
	p.activate(former, 0, 4_999)
	p.Prefix = "HTTP://B.EXAMPLE/"
	current := p.apply("current", 20_000)
	p.activate(current, 10, 10)
	prefixes := []string{codes.DefaultPrefix, p.Prefix}
	for _, text := range []string{
		p.Text(former, 0), p.Text(former, 9_999), p.Text(current, 10), strings.ToLower(p.Text(current, 11)), p.Code(former, 7),
		replaceChar(p.Text(former, 1), 15), "https://" + p.Text(former, 5),
		"P.URL.CN/0P$M%LZ4LHSVSDCR2L2", "http://p.url.cn/%30%24%25%2f%2e%2e", "P.URL.CN/../" + p.Text(former, 0), "\xff", "P.URL.CN/\x00",
		"https://shop.example/", p.Text(former, 3) + "?x",
	} {
		f.Add(text, "dev")
	}
	f.Fuzz(func(t *testing.T, text, user string) {
		s, ok := p.Scan(text, user, account)
		if !ok {
			require.True(t, s.Reason == "" && s.AppID == "" && s.Batch.ID == 0,
				"Scan(%q) = %+v, want the zero value for a text that is no code", text, s)
			return
		}
		require.True(t, utf8.ValidString(text), "invalid UTF-8 %q is a code", text)
		if s.Batch.ID == 0 {
			require.True(t, s.Reason == codes.UnknownCode, "Scan(%q) = %+v, want unknown_code", text, s)
			return
		}
		require.True(t, s.Index >= 0 && s.Index < s.Batch.Count, "%q: index %d", text, s.Index)
		if s.Reason == codes.SerialOnly {
			require.True(t, strings.ToUpper(text) == p.Code(s.Batch, s.Index), "Scan(%q) found the code %s", text, p.Code(s.Batch, s.Index))
			return
		}
		// The text of the code found is another spelling of the scanned text.
		got := require.Value(codes.ParseText(text, prefixes))(t)
		want, err := codes.ParseText(p.Text(s.Batch, s.Index), prefixes)
		require.True(t, err == nil && got.Symbols == want.Symbols && got.Version == want.Version,
			"Scan(%q) found %s: %v", text, p.Text(s.Batch, s.Index), err)
		active := s.Batch.ID == former.ID && s.Index <= 4_999 || s.Batch.ID == current.ID && s.Index == 10
		opens := s.Reason == ""
		require.True(t, opens == active && opens == (s.AppID == "shop") && (opens || s.Reason == codes.NotActive),
			"Scan(%q) = %+v, active %t", text, s, active)
	})
}

// TestCodeScan_ForgedText verifies that the complete look-up rejects every one-character change of issued texts. permute_test.go verifies
// the redundancy of the texts themselves.
func TestCodeScan_ForgedText(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	b := p.apply("x", 20_000_000)
	p.activate(b, 0, b.Count-1)
	for index := int64(0); index < b.Count; index += 1_999_993 {
		text := p.Text(b, index)
		for i := len(codes.DefaultPrefix); i < len(text); i++ {
			for _, c := range codes.Alphabet {
				forged := text[:i] + string(c) + text[i+1:]
				got := p.scan(forged, "")
				require.True(t, forged == text || got == "unknown_code", "scan of %s, forged from %s, = %s, want unknown_code", forged,
					text, got)
			}
		}
	}
	prefixes := p.Memory.Prefixes(codes.DefaultPrefix)
	assert.True(t, slices.Equal(prefixes, []string{codes.DefaultPrefix}), "Prefixes() = %v, want the default", prefixes)
}
