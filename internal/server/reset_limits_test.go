package server_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

const demoShop = "wxminiprogram0001"

// countRejected calls an endpoint repeatedly and returns how many calls the rate limit rejected.
func countRejected(t *testing.T, s *servertest.Server, calls int) (n int) {
	t.Helper()
	token := s.NewToken(demoShop)
	for range calls {
		switch code := s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, `{"get_type":0}`).Code(t); code {
		case 0:
		case 44990:
			n++
		default:
			t.Fatalf("qrcodejumpget = %d, want 0 or 44990", code)
		}
	}
	return n
}

func TestLimitOfCallsASecond_IsClearedByReset(t *testing.T) {
	t.Parallel()
	for name, clear := range map[string]struct{ method, path, body string }{
		"a reset of everything":   {"POST", "/emulator/reset", ""},
		"a reset of the account":  {"POST", "/emulator/reset", `{"accounts":["` + demoShop + `"]}`},
		"a load of a snapshot":    {"POST", "/emulator/snapshots/before/load", ""},
		"the clock a second on":   {"PUT", "/emulator/clock", `{"advance":"1s"}`},
		"a clock that is stopped": {"PUT", "/emulator/clock", `{"advance":"1s","freeze":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The setting survives a reset, and a seed of settings alone keeps the demo accounts.
			s := servertest.Start(t, servertest.Options{Seed: "settings: {rule_rate_limit: 2}\n",
				Config: func(c *server.Config) { c.Set = []string{"rule_rate_limit=5"} }})
			s.Admin("PUT", "/emulator/snapshots/before", "")
			countRejected(t, s, 15)
			s.Admin(clear.method, clear.path, clear.body)
			got := countRejected(t, s, 5)
			assert.True(t, got == 0, "after %s %d of 5 calls are rejected, want 0", name, got)
		})
	}
}

func TestClock_MovedByLessThanASecondKeepsTheLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Set = []string{"rule_rate_limit=1"} }})
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	countRejected(t, s, 1)
	for _, step := range []struct {
		advance string
		want    int
	}{{"600ms", 1}, {"600ms", 0}} {
		s.Admin("PUT", "/emulator/clock", `{"advance":"`+step.advance+`"}`)
		assert.Equal(t, countRejected(t, s, 1), step.want, "calls rejected after %s more", step.advance)
	}
}

func TestSet_WrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, want string }{
		{"rule_rate_limit", `--set "rule_rate_limit": want NAME=VALUE`},
		{"rate_limi=5", "--set: settings: "},
		{"rule_rate_limit=-1", "--set: settings: "},
		{`daily_limits={"/none":5}`, "no endpoint has the path /none"},
	} {
		config := server.Default()
		config.Set = []string{c.set}
		if err := config.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Validate() with --set %s = %v, want %q in it", c.set, err, c.want)
		}
	}
}
