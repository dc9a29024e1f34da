package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func (p instance) masterKeyFile() string { return filepath.Join(p.data, "master.key") }

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	return require.Value(os.ReadFile(file))(t)
}

// rotate runs a rotation after the server stopped. It retries while the database is in use, because PostgreSQL ends sessions with a delay.
func rotate(t *testing.T, rotation server.KeyRotation) (server.KeyRotationResult, error) {
	t.Helper()
	for {
		done, err := rotation.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "in use") {
			return done, err
		}
	}
}

// verifyKeys verifies results that need each key: a hashed token, a sealed token, a scan key, a code text, a package and an openid.
func (l fixture) verifyKeys(t *testing.T, s *servertest.Server) {
	t.Helper()
	for _, secret := range []string{l.token, l.scanKey, l.stable, l.ticket} {
		s.RegisterSecret(secret)
	}
	assert.Equal(t, stableToken(t, s), l.stable, "the stable token")
	_, text, body := lookupCode(t, s, l.batch, codeIndexes[0])
	assert.Equal(t, body, l.codes[0], "code 0")
	assert.Equal(t, normalizedDecision(t, l.scan(t, s, text)), l.decisions[0], "decision for code 0")
	assert.Equal(t, callCodes(t, s, l.token, "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":499}`, l.batch)).Body, l.segment, "the downloaded codes")
	assert.Contains(t, s.Admin("GET", "/users/bob/openid?appid=shop&namespace=phones", "").Body, l.openid, "the openid")
}

// TestMasterKeyRotation_ResealsOnly verifies that a rotation re-encrypts all sealed columns and keeps codes and tokens valid.
func TestMasterKeyRotation_ResealsOnly(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		s := p.start(t, servertest.Options{Seed: brand})
		l := createFixture(t, s)
		before := readTables(t, exportArchive(t, s))

		_, err := (server.KeyRotation{Config: p.config()}).Run(t.Context())
		require.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "in use"), "while a server runs: %v", err)
		s.Stop()
		old := readFile(t, p.masterKeyFile())
		done := require.Value(rotate(t, server.KeyRotation{Config: p.config()}))(t)
		// A package key, a message token, an EncodingAESKey and a stable token at least; five keys.
		assert.True(t, done.Keys >= 5 && done.Secrets >= 4 && !done.Finished && done.File == p.masterKeyFile(), "Run = %+v", done)
		newKey := readFile(t, p.masterKeyFile())
		assert.True(t, !bytes.Equal(old, newKey), "the master key is the same")
		info, err := os.Stat(p.masterKeyFile())
		assert.True(t, err == nil && info.Mode().Perm() == 0o600, "the master key: %v %v", info, err)
		assert.True(t, assert.ErrorOf(os.Stat(p.masterKeyFile()+".new")) != nil, "master.key.new exists after the rotation")

		// The old key is rejected, both from its file and from the environment.
		require.NoError(t, os.WriteFile(p.masterKeyFile(), old, 0o600))
		for name, o := range map[string]servertest.Options{
			"are not encrypted": {},
			"QRJUMP_MASTER_KEY": {Config: func(c *server.Config) { c.MasterKey = string(old) }},
		} {
			_, err := p.tryStart(t, o)
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "\n"),
				"with the old key: %v, want one line with %q", err, name)
		}
		_, err = (server.KeyRotation{Config: p.config()}).Run(t.Context())
		assert.ErrorIs(t, err, server.ErrUsage, "rotating with the old key")
		require.NoError(t, os.WriteFile(p.masterKeyFile(), newKey, 0o600))

		s = p.start(t, servertest.Options{})
		after := readTables(t, exportArchive(t, s))
		changed := map[string]bool{}
		for table, rows := range before {
			if after[table] != rows {
				changed[table] = true
			}
		}
		for _, table := range []string{"access_tokens", "accounts", "components"} {
			assert.True(t, changed[table], "table %s is unchanged, want re-encrypted secrets", table)
		}
		for _, table := range []string{"batches", "code_events", "links", "rules", "publishes", "scan_keys", "seeds", "tickets", "logins",
			"domains", "meta"} {
			assert.True(t, !changed[table], "table %s changed", table)
		}
		l.verify(t, s)
	})
}

var errCrash = errors.New("simulated crash")

// TestMasterKeyRotation_Interrupted interrupts a rotation after each of its steps. The server must start and work after each.
func TestMasterKeyRotation_Interrupted(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		s := p.start(t, servertest.Options{Seed: brand})
		l := createFixture(t, s)
		s.Stop()
		steps := map[string]bool{}
		for n := 1; ; n++ {
			old := readFile(t, p.masterKeyFile())
			hits, last := 0, ""
			done, err := rotate(t, server.KeyRotation{Config: p.config(), Reached: func(step string) error {
				hits++
				if hits < n {
					return nil
				}
				last = step
				return errCrash
			}})
			if err == nil {
				assert.True(t, !done.Finished, "step %d: Run completed an interrupted rotation, want a new one", n)
				break
			}
			require.True(t, errors.Is(err, errCrash), "step %d: %v", n, err)
			steps[last] = true
			committed := last == "the database is sealed anew" || last == "the new key is in its place"
			require.True(t, n <= 40, "step %d is %q, want at most 40 steps", n, last)
			s, err := p.tryStart(t, servertest.Options{})
			require.NoErrorf(t, err, "after %q", last)
			l.verifyKeys(t, s)
			completed := strings.Contains(s.Log(), "interrupted master key rotation completed")
			assert.Equal(t, completed, last == "the database is sealed anew", "after %q the log", last)
			s.Stop()
			same := bytes.Equal(readFile(t, p.masterKeyFile()), old)
			assert.True(t, same != committed, "after %q: the old key is the master key: %v", last, same)
		}
		assert.True(t, len(steps) == 4, "interrupted at %v, want 4 steps", steps)
		l.verify(t, p.start(t, servertest.Options{}))
	})
}

func TestMasterKeyRotation_ResumedAfterInterrupt(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		p.start(t, servertest.Options{Seed: brand}).Stop()
		crash := server.KeyRotation{Config: p.config(), Reached: func(step string) error {
			if step == "the database is sealed anew" {
				return errCrash
			}
			return nil
		}}
		if _, err := rotate(t, crash); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		newKey := readFile(t, p.masterKeyFile()+".new")
		done, err := rotate(t, server.KeyRotation{Config: p.config()})
		require.True(t, err == nil && done.Finished && done.Keys == 0, "%+v %v", done, err)
		assert.True(t, bytes.Equal(readFile(t, p.masterKeyFile()), newKey), "the key of master.key.new is not the master key")
		p.start(t, servertest.Options{}).Stop()

		// A start with master.key.new alone.
		_, err = rotate(t, crash)
		require.True(t, errors.Is(err, errCrash), "%v", err)
		require.NoError(t, os.Remove(p.masterKeyFile()))
		p.start(t, servertest.Options{}).Stop()
	})
}

func TestMasterKeyRotation_NewKeyFromFile(t *testing.T) {
	t.Parallel()
	p := newSQLite(t)
	p.start(t, servertest.Options{Seed: brand}).Stop()
	file := filepath.Join(t.TempDir(), "new.key")
	write := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	rotation := server.KeyRotation{Config: p.config(), NewKeyFile: file}
	oldKey := readFile(t, p.masterKeyFile())
	for text, want := range map[string]string{"": "64 hexadecimal digits", "hello": "64 hexadecimal digits",
		string(oldKey): "is already the master key"} {
		write(text)
		_, err := rotation.Run(t.Context())
		assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "\n"),
			"%q: %v, want one line with %q", text, err, want)
	}
	newKey := strings.Repeat("5a", 32)
	write("\t" + strings.ToUpper(newKey) + " \n\n")
	require.NoError(t, assert.ErrorOf(rotation.Run(t.Context())))
	got := string(readFile(t, p.masterKeyFile()))
	assert.True(t, strings.EqualFold(strings.TrimSpace(got), newKey), "the master key is not the key of the file")
	p.start(t, servertest.Options{}).Stop()

	// If the environment has the key, the rotation writes no key file.
	env := p.config()
	env.MasterKey = newKey
	require.NoError(t, os.Remove(p.masterKeyFile()))
	_, err := (server.KeyRotation{Config: env}).Run(t.Context())
	assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "--new-key-file"), "without a file: %v", err)
	next := strings.Repeat("a5", 32)
	write(next)
	done, err := server.KeyRotation{Config: env, NewKeyFile: file}.Run(t.Context())
	require.True(t, err == nil && done.File == "" && !done.Finished, "%+v %v", done, err)
	// An operator may repeat a rotation with an unknown result.
	done, err = (server.KeyRotation{Config: env, NewKeyFile: file}).Run(t.Context())
	assert.True(t, err == nil && done.Finished && done.File == "", "again: %+v %v", done, err)
	for _, name := range []string{"master.key", "master.key.new"} {
		_, err := os.Stat(filepath.Join(p.data, name))
		assert.True(t, err != nil, "%s exists although the environment has the key", name)
	}
	for key, want := range map[string]bool{newKey: false, next: true} {
		s, err := p.tryStart(t, servertest.Options{Config: func(c *server.Config) { c.MasterKey = key }})
		assert.True(t, (err == nil) == want, "%.2s…: %v", key, err)
		if err == nil {
			s.Stop()
		}
	}
}

func TestMasterKeyRotation_NothingToRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]server.Config{
		"no folder":   {Data: filepath.Join(dir, "none")},
		"no database": {Data: dir},
		"no name":     {},
	} {
		assert.ErrorIs(t, assert.ErrorOf((server.KeyRotation{Config: c}).Run(t.Context())), server.ErrUsage, "%s", name)
	}
	entries, err := os.ReadDir(dir)
	assert.True(t, err == nil && len(entries) == 0, "the directory contains %v, %v, want no files", entries, err)
}
