package server_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// TestSecretComparisons_Covered verifies that testdata/comparisons.txt lists every file that compares secrets. Each comparison needs a test
// that it throttles and logs only wrong secrets.
func TestSecretComparisons_Covered(t *testing.T) {
	t.Parallel()
	compares := regexp.MustCompile(`subtle\.ConstantTimeCompare\(|hmac\.Equal\(|sameSecret\(|\b(?:Key|Vault)\.(?:Hash|Matches)\(`)
	comparisons := testtable.Map(t, "testdata/comparisons.txt")
	unused := maps.Clone(comparisons)
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !compares.Match(text) {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		assert.True(t, comparisons[name] != "",
			"%s compares secrets: add a surface to TestThrottle_ValidCredentialPasses, and the file to comparisons.txt", name)
		delete(unused, name)
		return nil
	}))
	assert.True(t, len(unused) == 0, "comparisons.txt lists files without a comparison: %q", slices.Sorted(maps.Keys(unused)))
}

// TestAdminToken_MinLength verifies that without --dev a short admin token is rejected, both from the flag, which the environment and
// --config set too, and from the file in the data directory. The error must not contain the token.
func TestAdminToken_MinLength(t *testing.T) {
	t.Parallel()
	const nineteen, twenty = "a-token-of-19-chars", "a-token-of-20-chars!"
	for _, c := range []struct {
		name, flag, file string
		dev              bool
		want             string // in the one line that refuses the start; "" = it starts
	}{
		{"flag", nineteen, "", false, "the admin token (--admin-token) has 19 characters: without --dev it needs at least 20"},
		{"one character", "x", "", false, "(--admin-token) has 1 characters"},
		{"characters, not bytes", strings.Repeat("茶", 19), "", false, "(--admin-token) has 19 characters"},
		{"file", "", nineteen + "\n", false, "admin-token) has 19 characters: without --dev it needs at least 20"},
		{"the flag stands above the file", nineteen, twenty, false, "(--admin-token) has 19 characters"},
		{"enough by flag", twenty, "", false, ""},
		{"enough by file", "", twenty + "\n", false, ""},
		{"the file is not read", twenty, nineteen, false, ""},
		{"--dev by flag", nineteen, "", true, ""},
		{"--dev by file", "", nineteen, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := servertest.TryStart(t, servertest.Options{Guarded: !c.dev, Config: func(config *server.Config) {
				if config.AdminToken = c.flag; c.file == "" {
					return
				}
				require.NoError(t, os.WriteFile(filepath.Join(config.Data, "admin-token"), []byte(c.file), 0o600))
			}})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v, want a start", err)
			case c.want != "" && (!errors.Is(err, server.ErrUsage) || !strings.Contains(err.Error(), c.want) ||
				strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), nineteen)):
				t.Errorf("%v, want one line with %q", err, c.want)
			}
		})
	}
}
