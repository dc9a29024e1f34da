package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func beginTextImport(t *testing.T, p *codes.Service, isv, text string, count int64) codes.Batch {
	t.Helper()
	b, err := p.BeginImport(adminCtx(t), codes.NewImport{Account: "svc", ISV: isv, Count: count, Text: codes.TemplateOrder{Text: text}})
	require.NoError(t, err)
	return b
}

func noAccount(string) (accounts.Account, bool) { return accounts.Account{}, false }

// TestImportTexts_FindsEverySpelling imports texts of several systems. They are found as printed and percent-encoded, tokens are
// case-sensitive, and texts are printed unchanged.
func TestImportTexts_FindsEverySpelling(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p := newCodeServices(t, nodes)
		addServiceAccount(t, nodes[0])
		for name, c := range map[string]struct {
			template  string
			texts     []string
			spellings map[string]int // other spellings with the index of their code
			others    []string       // texts that are not codes
		}{
			"letters, UUID, mixed case": {"https://old.example/c/{token:8-64}",
				[]string{"https://old.example/c/abcdefghijklmn", "https://old.example/c/6f9619ff-8b86-d011-b42d-00cf4fc964ff",
					"https://old.example/c/aBcDeFgH", "https://old.example/c/AbCdEfGh", "https://old.example/c/" + strings.Repeat("z", 64)},
				map[string]int{"HTTP://OLD.example/c/aBcDeFgH": 2, "old.example/c/AbCdEfGh": 3,
					"https://old.example/c/%61bcdefghijklmn": 0},
				[]string{"https://old.example/c/abcdefgh", "https://old.example/c/aBcDeFgH?from=scan", "https://old.example/c/AbCdEfGh/"}},
			"Chinese in a query": {"https://zh.example/q?商品={token:1-64}&v=1",
				[]string{"https://zh.example/q?商品=中文编号001&v=1", "https://zh.example/q?商品=%E7%BC%96%E5%8F%B7&v=1"},
				map[string]int{"https://zh.example/q?" + url.QueryEscape("商品") + "=" + url.QueryEscape("中文编号001") + "&v=1": 0,
					"https://zh.example/q?商品=编号&v=1": 1, "https://zh.example/q?%e5%95%86%e5%93%81=%e7%bc%96%e5%8f%b7&v=1": 1},
				[]string{"https://zh.example/q?商品=中文编号001&v=2"}},
			"all characters of a URL": {"https://all.example/{token:10-64}",
				[]string{"https://all.example/-._~:/?[]@!$&'()*+,;=%2F%20"},
				map[string]int{"https://all.example/-._~:/?[]@!$&%27()*+,;=%2f%20": 0},
				[]string{"https://all.example/-._~:/?[]@!$&'()*+,;=/%20"}},
		} {
			b := beginTextImport(t, p[0], name, c.template, int64(len(c.texts)))
			done, err := p[0].ImportTexts(adminCtx(t), b.ID, 1, 0, strings.NewReader("\ufeff"+strings.Join(c.texts, "\r\n")))
			require.True(t, err == nil && done.Stored == b.Count, "%s: ImportTexts() = %+v, %v, want %d stored", name, done, err, b.Count)
			require.NoError(t, p[1].Memory.Changed(t.Context(), b.ID))
			indexOf := func(text string) int {
				s, ok := p[1].Scan(text, "alice", noAccount)
				require.True(t, ok && s.Err == nil, "%s: Scan(%q) = %+v, %v", name, text, s, ok)
				if s.Reason == codes.UnknownCode {
					return -1
				}
				return int(s.Index)
			}
			for i, text := range c.texts {
				assert.True(t, indexOf(text) == i, "%s: index of %q = %d, want %d", name, text, indexOf(text), i)
				code, printed, err := p[1].Print(t.Context(), b, int64(i))
				assert.True(t, err == nil && printed == text && len(code) == codes.CodeLength, "Print() of %q = %q, %q, %v", text,
					code, printed, err)
				f, err := p[1].Lookup(t.Context(), codes.CodeName{Code: code, ID: b.ID})
				assert.True(t, err == nil && f.Index == int64(i), "Lookup(%q) = %+v, %v, want index %d", code, f, err, i)
				for _, suffix := range []string{"?from=scan", "/"} {
					redacted := p[1].Redact(text + suffix)
					assert.True(t, strings.HasPrefix(text, redacted) && len(redacted) < len(text)-3,
						"Redact(%q) = %q", text+suffix, redacted)
				}
			}
			for text, i := range c.spellings {
				assert.True(t, indexOf(text) == i, "%s: index of %q = %d, want %d", name, text, indexOf(text), i)
			}
			for _, text := range c.others {
				s, ok := p[1].Scan(text, "alice", noAccount)
				assert.True(t, !ok || s.Reason == codes.UnknownCode, "%s: Scan(%q) = %+v, want no code", name, text, s)
			}
			// A repeated import changes nothing.
			repeated, err := p[1].ImportTexts(adminCtx(t), b.ID, 1, 0, strings.NewReader(strings.Join(c.texts, "\n")))
			assert.True(t, err == nil && repeated.Added == 0, "repeated ImportTexts() = %+v, %v, want none added", repeated, err)
		}
		nested := "https://shop.example/?to=" + url.QueryEscape("https://old.example/c/aBcDeFgH")
		assert.True(t, !strings.Contains(p[1].Redact(nested), "aBcDeFgH"),
			"Redact(%q) = %q, which has the token", nested, p[1].Redact(nested))
		p[1].MatchRule = func(text string) (string, bool) {
			return "https://old.example/c/sale/", strings.Contains(text, "/sale/")
		}
		s, ok := p[1].Scan("https://old.example/c/sale/today", "alice", noAccount)
		assert.True(t, !ok, "Scan() of a text that matches a rule = %+v, want none", s)
	})
}

func TestImportTexts_RejectsInvalidList(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p, call := newCodeServices(t, [2]*Store{s, s})[0], addServiceAccount(t, s)
		p.MatchRule = func(text string) (string, bool) { return "https://old.example/c/sale", strings.Contains(text, "/sale") }
		native, err := p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000})
		require.NoError(t, err)
		const head = "https://old.example/c/"
		first, second := beginTextImport(t, p, "first", head+"{token:8-64}", 3), beginTextImport(t, p, "second", head+"{token:8-64}", 4)
		wire := beginTextImport(t, p, "wire", "https://p.url.cn/{token:19}", 1)
		require.NoError(t, assert.ErrorOf(p.ImportTexts(adminCtx(t), first.ID, 1, 0, strings.NewReader(head+"aaaaaaaa\n"))))
		good := head + "good-token\n"
		for name, c := range map[string]struct {
			list, reason string
			line         int
			start        int64
			batch        codes.Batch
		}{
			"65 characters":         {good + head + strings.Repeat("x", 65), "length of 65: want {token:8-64}", 2, 0, second},
			"7 characters":          {good + head + "1234567", "length of 7: want", 2, 0, second},
			"a space":               {good + head + "12345 678", "%20", 2, 0, second},
			"a tab":                 {good + head + "12345\t678", "U+0009", 2, 0, second},
			"a quote":               {good + head + `1234"5678`, "%22", 2, 0, second},
			"a bare percent":        {good + head + "100%sure", "two hexadecimal digits", 2, 0, second},
			"a BOM before a line":   {good + "\ufeff" + head + "12345678", "not one of", 2, 0, second},
			"a BOM in a token":      {good + head + "1234\ufeff5678", "U+FEFF", 2, 0, second},
			"GBK":                   {good + head + "1234\xd6\xd05678", "UTF-8", 2, 0, second},
			"UTF-16":                {"\xff\xfeh\x00", "UTF-16", 1, 0, second},
			"an empty line":         {good + "\n" + head + "12345678\n", "empty", 2, 0, second},
			"another host":          {"https://new.example/c/12345678\n", "not one of", 1, 0, second},
			"a duplicate":           {good + head + "12345678\n" + good, "duplicate of line 1", 3, 0, second},
			"an escaped duplicate":  {good + head + "%67ood-token\n", "duplicate of line 1", 2, 0, second},
			"text of another batch": {good + head + "aaaaaaaa\n", fmt.Sprintf("code 0 of application %d", first.ID), 2, 0, second},
			"text of a rule":        {good + head + "sale-2026\n", "the jump rule https://old.example/c/sale", 2, 0, second},
			"a generated text":      {"https://p.url.cn/" + p.Text(native, 5)[len(codes.DefaultPrefix):], "server generates", 1, 0, wire},
			"too many texts":        {good + head + "12345678\n", "indexes 0 to 3", 2, 3, second},
			"a stored code":         {good, "here already", 1, 0, first},
			"four columns":          {importLines(0, 0, 0), "not one of", 1, 0, second},
			"an empty list":         {"", "no lines", 0, 0, second},
			"a start past the end":  {good, "code_index 4", 0, 4, second},
		} {
			_, err := p.ImportTexts(adminCtx(t), c.batch.ID, 1, c.start, strings.NewReader(c.list))
			assert.True(t, err != nil && strings.Contains(err.Error(), c.reason), "%s: ImportTexts() = %v, want %q", name, err, c.reason)
			rowErrors, ok := errors.AsType[accounts.RowErrors](err)
			assert.True(t, c.line <= 0 || ok && rowErrors[0].Line == c.line, "%s: ImportTexts() = %v, want line %d", name, err, c.line)
			check(t, "stored codes", p.Memory.Arrived(second.ID, t0), 0)
		}
		_, err = p.ImportCodes(adminCtx(t), second.ID, 1, strings.NewReader(importLines(0, 0, 0)))
		assert.True(t, isConflict(err), "ImportCodes() into a batch of texts = %v, want a conflict", err)
		for _, template := range []string{"{token:10}", "https://{token:10}.example/", "https://a.example/{token:65}",
			"https://a.example/{token:9-8}",
			"https://a.example/{token:08}", "https://a.example/{token:0-8}", "https://a.example/{token:8}{serial}",
			"https://a.example/a b{token:8}"} {
			_, err := p.BeginImport(adminCtx(t), codes.NewImport{Account: "svc", ISV: "x", Count: 1,
				Text: codes.TemplateOrder{Text: template}})
			assert.True(t, err != nil, "BeginImport() with the template %s = nil, want an error", template)
		}
		_, err = p.FillTemplate(codes.TemplateOrder{Text: head + "{token:30}", Count: 10_000})
		assert.True(t, err != nil && strings.Contains(err.Error(), "imported"), "FillTemplate() with a token = %v, want an error", err)
	})
}

// TestImportTexts_NoPlaintextAtRest verifies the stored row of an imported text, and that a row that was altered is not printed.
func TestImportTexts_NoPlaintextAtRest(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		p := newCodeServices(t, [2]*Store{s, s})[0]
		addServiceAccount(t, s)
		b := beginTextImport(t, p, "first", "https://old.example/c/{token:14}", 1)
		list := strings.NewReader("https://old.example/c/abcdefghijklmn")
		require.NoError(t, assert.ErrorOf(p.ImportTexts(adminCtx(t), b.ID, 1, 0, list)))
		var row codes.ImportedCode
		view(t, s, func(ctx context.Context, tx *Tx) (err error) {
			rows, err := tx.codes().ImportedCodes(ctx, b.ID, codes.Range{})
			row = rows[0]
			return err
		})
		// Stored rows keep these values, so a change of the encoding breaks existing databases.
		check(t, "row", row, codes.ImportedCode{Batch: b.ID, Code: 327362731469509, TextHi: -7189171570506820562,
			TextLo: 4960230446971161288, Token: "CWUZ7iooBBJaRIfQXUI"})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.exec(ctx, `UPDATE imported_codes SET text_lo = text_lo + 1`)
			return err
		})
		_, text, err := p.Print(t.Context(), b, 0)
		assert.True(t, err != nil, "Print() of an altered row = %q, want an error", text)
	})
}
