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

func (p place) master() string { return filepath.Join(p.data, "master.key") }

func content(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return b
}

// turned runs a turn where those who had the database have ended: on a busy machine PostgreSQL notices late.
func turned(t *testing.T, turn server.KeyRotation) (server.KeyRotationResult, error) {
	t.Helper()
	for {
		done, err := turn.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "in use") {
			return done, err
		}
	}
}

// works checks what needs each of the keys: a hashed token, a sealed one, a scan key, a code's text, a package and its key, an openid.
func (l life) works(t *testing.T, s *servertest.Server) {
	t.Helper()
	for _, secret := range []string{l.token, l.scanKey, l.stable, l.ticket} {
		s.Hide(secret)
	}
	assert.Equal(t, stableToken(t, s), l.stable, "the stable token is another")
	_, text, whole := look(t, s, l.batch, indexes[0])
	assert.True(t, whole == l.codes[0], "code 0 is %s, was %s", whole, l.codes[0])
	got := decided(t, l.scan(t, s, text))
	assert.True(t, got == l.decisions[0], "code 0 opens %s, opened %s", got, l.decisions[0])
	assert.Equal(t, codesCall(t, s, l.token, "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":499}`, l.batch)).Body, l.segment, "the package is another")
	assert.Contains(t, s.Admin("GET", "/users/bob/openid?appid=shop&namespace=phones", "").Body, l.openid, "the openid was %s", l.openid)
}

// Everything sealed is sealed anew; nothing printed or issued changes.
func TestMasterKeyRotation_ResealsOnly(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p := where(t)
		s := p.start(t, servertest.Options{Seed: brand})
		l := live(t, s)
		before := rowsIn(t, exported(t, s))

		_, err := (server.KeyRotation{Config: p.config()}).Run(t.Context())
		require.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "in use"), "while a server runs: %v", err)
		s.Stop()
		old := content(t, p.master())
		done, err := turned(t, server.KeyRotation{Config: p.config()})
		require.NoError(t, err)
		// A package key, a message token, an EncodingAESKey and a stable token at least; five keys.
		assert.True(t, done.Keys >= 5 && done.Secrets >= 4 && !done.Finished && done.File == p.master(), "it says %+v", done)
		turned := content(t, p.master())
		assert.True(t, !bytes.Equal(old, turned), "the master key is the same")
		info, err := os.Stat(p.master())
		assert.True(t, err == nil && info.Mode().Perm() == 0o600, "the master key: %v %v", info, err)
		assert.True(t, assert.ErrorOf(os.Stat(p.master()+".new")) != nil, "the new key is there twice")

		// The old key opens nothing any more: not from its file, not from the environment.
		require.NoError(t, os.WriteFile(p.master(), old, 0o600))
		for name, o := range map[string]servertest.Options{
			"are not encrypted": {},
			"QRJUMP_MASTER_KEY": {Config: func(c *server.Config) { c.MasterKey = string(old) }},
		} {
			_, err := p.try(t, o)
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "\n"),
				"with the old key: %v, want one line with %q", err, name)
		}
		_, err = (server.KeyRotation{Config: p.config()}).Run(t.Context())
		assert.ErrorIs(t, err, server.ErrUsage, "turning with the old key")
		require.NoError(t, os.WriteFile(p.master(), turned, 0o600))

		s = p.start(t, servertest.Options{})
		after := rowsIn(t, exported(t, s))
		changed := map[string]bool{}
		for table, rows := range before {
			if after[table] != rows {
				changed[table] = true
			}
		}
		for _, table := range []string{"access_tokens", "accounts", "components"} {
			assert.True(t, changed[table], "nothing in %s was sealed anew", table)
		}
		for _, table := range []string{"batches", "code_events", "links", "rules", "publishes", "scan_keys", "seeds", "tickets", "logins",
			"domains", "meta"} {
			assert.True(t, !changed[table], "%s changed", table)
		}
		l.goesOn(t, s)
	})
}

var errCrash = errors.New("the process ended here")

// A turn that ends at any of its steps leaves a server that starts.
func TestMasterKeyRotation_Interrupted(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p := where(t)
		s := p.start(t, servertest.Options{Seed: brand})
		l := live(t, s)
		s.Stop()
		steps := map[string]bool{}
		for n := 1; ; n++ {
			old := content(t, p.master())
			hits, last := 0, ""
			done, err := turned(t, server.KeyRotation{Config: p.config(), Reached: func(step string) error {
				hits++
				if hits < n {
					return nil
				}
				last = step
				return errCrash
			}})
			if err == nil {
				assert.True(t, !done.Finished, "step %d: it found something to finish", n)
				break
			}
			require.True(t, errors.Is(err, errCrash), "step %d: %v", n, err)
			steps[last] = true
			committed := last == "the database is sealed anew" || last == "the new key is in its place"
			require.True(t, n <= 40, "step %d is %q: it never ends", n, last)
			s, err := p.try(t, servertest.Options{})
			require.NoErrorf(t, err, "after %q", last)
			l.works(t, s)
			completed := strings.Contains(s.Log(), "interrupted master key rotation completed")
			assert.Equal(t, completed, last == "the database is sealed anew", "after %q the log", last)
			s.Stop()
			same := bytes.Equal(content(t, p.master()), old)
			assert.True(t, same != committed, "after %q: the old key is the master key: %v", last, same)
		}
		assert.True(t, len(steps) == 4, "cut off at %v", steps)
		l.goesOn(t, p.start(t, servertest.Options{}))
	})
}

func TestMasterKeyRotation_ResumedAfterInterrupt(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p := where(t)
		p.start(t, servertest.Options{Seed: brand}).Stop()
		crash := server.KeyRotation{Config: p.config(), Reached: func(step string) error {
			if step == "the database is sealed anew" {
				return errCrash
			}
			return nil
		}}
		if _, err := turned(t, crash); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		waiting := content(t, p.master()+".new")
		done, err := turned(t, server.KeyRotation{Config: p.config()})
		require.True(t, err == nil && done.Finished && done.Keys == 0, "%+v %v", done, err)
		assert.True(t, bytes.Equal(content(t, p.master()), waiting), "the key that waited is not the master key")
		p.start(t, servertest.Options{}).Stop()

		// The old file is gone as well: the new one is enough.
		_, err = turned(t, crash)
		require.True(t, errors.Is(err, errCrash), "%v", err)
		require.NoError(t, os.Remove(p.master()))
		p.start(t, servertest.Options{}).Stop()
	})
}

func TestMasterKeyRotation_NewKeyFromFile(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	p.start(t, servertest.Options{Seed: brand}).Stop()
	file := filepath.Join(t.TempDir(), "new.key")
	write := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	turn := server.KeyRotation{Config: p.config(), NewKeyFile: file}
	old := content(t, p.master())
	for text, want := range map[string]string{"": "64 hexadecimal digits", "hello": "64 hexadecimal digits",
		string(old): "is already the master key"} {
		write(text)
		_, err := turn.Run(t.Context())
		assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "\n"),
			"%q: %v, want one line with %q", text, err, want)
	}
	fresh := strings.Repeat("5a", 32)
	write("\t" + strings.ToUpper(fresh) + " \n\n")
	require.NoError(t, assert.ErrorOf(turn.Run(t.Context())))
	got := string(content(t, p.master()))
	assert.True(t, strings.EqualFold(strings.TrimSpace(got), fresh), "another key than that of the file is the master key")
	p.start(t, servertest.Options{}).Stop()

	// In the environment the old key stays where it is, and so does the new one.
	env := p.config()
	env.MasterKey = fresh
	require.NoError(t, os.Remove(p.master()))
	_, err := (server.KeyRotation{Config: env}).Run(t.Context())
	assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "--new-key-file"), "without a file: %v", err)
	next := strings.Repeat("a5", 32)
	write(next)
	done, err := server.KeyRotation{Config: env, NewKeyFile: file}.Run(t.Context())
	require.True(t, err == nil && done.File == "" && !done.Finished, "%+v %v", done, err)
	// An operator that does not know how far it came asks once more.
	done, err = (server.KeyRotation{Config: env, NewKeyFile: file}).Run(t.Context())
	assert.True(t, err == nil && done.Finished && done.File == "", "again: %+v %v", done, err)
	for _, name := range []string{"master.key", "master.key.new"} {
		_, err := os.Stat(filepath.Join(p.data, name))
		assert.True(t, err != nil, "%s was made although the environment has the key", name)
	}
	for key, want := range map[string]bool{fresh: false, next: true} {
		s, err := p.try(t, servertest.Options{Config: func(c *server.Config) { c.MasterKey = key }})
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
	left, err := os.ReadDir(dir)
	assert.True(t, err == nil && len(left) == 0, "it left %v %v", left, err)
}
