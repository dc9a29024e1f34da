package store

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
)

func TestServersAreCompared(t *testing.T) {
	v := &servers{highest: map[string]int64{"a": 3, "b": 1}, tied: map[string]bool{"b": true}}
	for name, c := range map[string]struct {
		of  stand
		old bool
	}{
		"the latest timeline":                  {stand{system: "a", timeline: 3}, false},
		"an earlier one":                       {stand{system: "a", timeline: 2}, true},
		"a later one":                          {stand{system: "a", timeline: 4}, false},
		"a replica":                            {stand{system: "a"}, false},
		"one timeline of two servers":          {stand{system: "b", timeline: 1}, true},
		"a later one than that of two servers": {stand{system: "b", timeline: 2}, false},
		"another system":                       {stand{system: "c", timeline: 1}, false},
		"a server that does not say which system it has": {stand{timeline: 1}, false},
	} {
		err := v.compare(c.of)
		if _, is := errors.AsType[*oldPrimaryError](err); is != c.old {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two names of one server are one server, and word of a later timeline that somebody left there ends the use of it: word of another
// system, whose rows these are a copy of, does not.
func TestAServerOfWhichWordWasLeft(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	u, err := url.Parse(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = "127.0.0.1:" + u.Port() + ",localhost:" + u.Port()
	target.URL = u.String()
	s := open(t, target)
	change := func(host string) error {
		return s.update(t.Context(), func(tx *Tx) error {
			return tx.PutDomain(t.Context(), rules.Domain{Host: host, Status: rules.Denied})
		})
	}
	if found := s.AskServers(t.Context()); len(found.Writing) != 1 || found.Primaries() != 1 || found.Writing[0].Timeline == 0 {
		t.Errorf("%+v", found)
	}
	leave := func(system string) {
		dbtest.Exec(t, target.URL, `INSERT INTO timelines (system, timeline) VALUES (`+system+`, 99)
			ON CONFLICT (system) DO UPDATE SET timeline = 99`)
	}
	leave(`'another'`)
	if found := s.AskServers(t.Context()); found.Missing != 0 || change("a.example") != nil {
		t.Errorf("word of another system: %+v", found)
	}
	leave(`(SELECT system_identifier FROM pg_control_system())`)
	late := s.update(t.Context(), func(tx *Tx) error {
		if found := s.AskServers(t.Context()); found.Missing != 99 || found.Primaries() != 2 || !found.Writing[0].Old {
			t.Errorf("word of a later timeline: %+v", found)
		}
		return tx.PutDomain(t.Context(), rules.Domain{Host: "b.example", Status: rules.Denied})
	})
	for when, err := range map[string]error{"a change": change("c.example"), "one that had begun": late, "a look": s.Ping(t.Context())} {
		out, is := errors.AsType[*errcode.Outage](err)
		if !is || !strings.HasPrefix(out.What, oldDatabase) || causeOf(out.What) != "primaries" {
			t.Errorf("%s on an old primary: %v", when, err)
		}
	}
	if n := dbtest.Number(t, target.URL, `SELECT COUNT(*) FROM domains`); n != 1 {
		t.Errorf("%d changes were made", n)
	}
	if _, err := Open(t.Context(), target); err == nil || !strings.Contains(err.Error(), oldDatabase) {
		t.Errorf("a start on an old primary: %v", err)
	}
	if err := fmt.Sprint(late); len(err) > 0 && strings.Contains(err, "\n") {
		t.Errorf("it is said in several lines: %s", err)
	}
}
