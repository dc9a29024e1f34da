package server

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
)

// A door is a place that checks credentials. Each door compares the credential first: a right one is let in, however many wrong
// ones came from the same address. Wrong ones are counted and logged; after twenty from an address within a minute, the answer says
// only that there were too many. A password is the exception, because comparing it is dear. TestARightCredentialIsNeverRefused
// holds every door.
type door struct {
	name  string // label of metrics, and what the operation calls it
	wrong string // how the log speaks of a wrong one
}

var (
	adminDoor    = door{"admin_token", "a wrong admin token"} // or admin key, sent or typed
	secretDoor   = door{"app_secret", "a wrong AppSecret"}
	scanDoor     = door{"scan_key", "a wrong scan key"}
	personDoor   = door{string(iam.ByPassword), "a wrong sign-in"}
	linkDoor     = door{string(iam.ByLoginLink), "a sign-in link that is none any more"}
	providerDoor = door{string(iam.ByProvider), "an answer of the provider that lets nobody in"}

	doors = []door{adminDoor, secretDoor, scanDoor, personDoor, linkDoor, providerDoor}
)

// refuse notes a wrong credential: whose it claims to be, where that is known. With tooMany it only counts it, because
// many came before.
func (s access) refuse(ctx context.Context, d door, name string, ip netip.Addr, tooMany bool) {
	s.secrets.refusals.note(refusal{what: d.name, name: name, ip: ip.Unmap().WithZone("")}, s.realNow())
	if tooMany {
		s.metrics.guesses.WithLabelValues(d.name, "refused").Inc()
		return
	}
	s.metrics.guesses.WithLabelValues(d.name, "wrong").Inc()
	key := map[door]string{secretDoor: "account", personDoor: "person", linkDoor: "person"}[d]
	var values []any
	if name != "" {
		values = []any{cmp.Or(key, "key"), name}
	}
	s.log.WarnContext(ctx, d.wrong, append(values, "ip", ip.String())...)
}

// refuseAt is refuse for a door that this package guards itself; tooMany is for the answer.
func (s access) refuseAt(r *http.Request, d door, name string) (tooMany bool) {
	ip := s.clientIP(r)
	tooMany = s.secrets.guesses.RecordFailure(ip, d.name, s.realNow())
	s.refuse(r.Context(), d, name, ip, tooMany)
	return tooMany
}

// keyMark names a wrong key by its beginning, which is of no use to a stranger. A text that does not look like a key is not shown
// at all: it may be a password.
func keyMark(text string) string {
	const shown = 8
	for _, kind := range []string{"qra_", iam.KeyPrefix, "qrs_"} {
		if strings.HasPrefix(text, kind) && len(text) >= 4*shown {
			return text[:shown] + "…"
		}
	}
	return ""
}

// refusal identifies a credential that keeps being wrong, and its origin.
type refusal struct {
	what, name string
	ip         netip.Addr
}

// refusedCredentials returns those of the last day, for the admin API.
func (s access) refusedCredentials() []adminapi.RefusedCredential {
	list := []adminapi.RefusedCredential{}
	for _, r := range s.secrets.refusals.list(s.realNow()) {
		list = append(list, adminapi.RefusedCredential{What: r.what, Name: r.name, IP: r.ip.String(), Times: r.times,
			First: r.first, Last: r.last})
	}
	return list
}

// refused is the number of refusals of a credential.
type refused struct {
	refusal
	times       int64
	first, last time.Time
}

// refusals are the wrong credentials of the last day, for an operator who looks for the program that has an old one. They
// are this node's own and end with it: a stranger causes no write to the database.
type refusals struct {
	mu sync.Mutex
	of map[refusal]*refused
}

const (
	// mostRefusals is the number of refusals that are remembered, and refusalTime their retention.
	mostRefusals = 1000
	refusalTime  = 24 * time.Hour
)

func (l *refusals) note(r refusal, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[refusal]*refused{}
	}
	item := l.of[r]
	if item == nil {
		if len(l.of) >= mostRefusals {
			l.dropOne()
		}
		item = &refused{refusal: r, first: now}
		l.of[r] = item
	}
	item.times++
	item.last = now
}

// dropOne forgets the rarest of a few entries: so a program that keeps failing stays in the list,
// even beside a stranger with many addresses.
func (l *refusals) dropOne() {
	var rarest *refused
	looked := 0
	for _, r := range l.of {
		if rarest == nil || r.times < rarest.times {
			rarest = r
		}
		if looked++; looked == 8 {
			break
		}
	}
	delete(l.of, rarest.refusal)
}

// list returns the credentials that kept failing within the last day, the most frequent first.
func (l *refusals) list(now time.Time) (list []refused) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.of {
		if now.Sub(r.last) >= refusalTime {
			delete(l.of, key)
			continue
		}
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b refused) int {
		return cmp.Or(cmp.Compare(b.times, a.times), b.last.Compare(a.last), cmp.Compare(a.what, b.what), cmp.Compare(a.name, b.name),
			a.ip.Compare(b.ip))
	})
	return list
}
