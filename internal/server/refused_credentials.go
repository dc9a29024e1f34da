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

// credentialKind describes a kind of credential that this server checks. A check accepts a valid credential, however many invalid attempts
// came from the same address. Invalid attempts are counted and logged; after twenty invalid attempts from an address within a
// minute, the response to an invalid credential only reports too many attempts. Passwords differ: after too many failed attempts a
// password is not compared, because comparing passwords is expensive. TestThrottle_ValidCredentialPasses tests all kinds.
type credentialKind struct {
	name    string // metric label, and the name in the admin API
	message string // log message for an invalid credential
}

var (
	adminTokenKind = credentialKind{"admin_token", "wrong admin token"} // the admin token and admin keys, in a header or typed on a page
	secretKind     = credentialKind{"app_secret", "wrong AppSecret"}
	scanKeyKind    = credentialKind{"scan_key", "wrong scan key"}
	passwordKind   = credentialKind{string(iam.ByPassword), "wrong sign-in"}
	loginLinkKind  = credentialKind{string(iam.ByLoginLink), "expired sign-in link"}
	providerKind   = credentialKind{string(iam.ByProvider), "rejected sign-in of the identity provider"}

	credentialKinds = []credentialKind{adminTokenKind, secretKind, scanKeyKind, passwordKind, loginLinkKind, providerKind}
)

// refuse records an invalid credential, with the name that it claims, if known. With tooMany, refuse counts the attempt but does
// not log it.
func (s access) refuse(ctx context.Context, d credentialKind, name string, ip netip.Addr, tooMany bool) {
	s.secrets.refusals.note(refusal{kind: d.name, name: name, ip: ip.Unmap().WithZone("")}, s.realNow())
	if tooMany {
		s.metrics.guesses.WithLabelValues(d.name, "refused").Inc()
		return
	}
	s.metrics.guesses.WithLabelValues(d.name, "wrong").Inc()
	key := map[credentialKind]string{secretKind: "account", passwordKind: "person", loginLinkKind: "person"}[d]
	var values []any
	if name != "" {
		values = []any{cmp.Or(key, "key"), name}
	}
	s.log.WarnContext(ctx, d.message, append(values, "ip", ip.String())...)
}

// refuseAt calls refuse for a kind of credential that this package checks itself; tooMany reports whether the response must report
// too many attempts.
func (s access) refuseAt(r *http.Request, d credentialKind, name string) (tooMany bool) {
	ip := s.clientIP(r)
	tooMany = s.secrets.guesses.RecordFailure(ip, d.name, s.realNow())
	s.refuse(r.Context(), d, name, ip, tooMany)
	return tooMany
}

// keyMark returns the first characters of an invalid key, which are useless to an attacker. For a text that does not look like a
// key, keyMark returns "": the text may be a password.
func keyMark(text string) string {
	const shown = 8
	for _, kind := range []string{"qra_", iam.KeyPrefix, "qrs_"} {
		if strings.HasPrefix(text, kind) && len(text) >= 4*shown {
			return text[:shown] + "…"
		}
	}
	return ""
}

// refusal identifies a credential that is repeatedly rejected, and its source address.
type refusal struct {
	kind, name string
	ip         netip.Addr
}

// refusedCredentials returns the credentials that were rejected in the last 24 hours, for the admin API.
func (s access) refusedCredentials() []adminapi.RefusedCredential {
	list := []adminapi.RefusedCredential{}
	for _, r := range s.secrets.refusals.list(s.realNow()) {
		list = append(list, adminapi.RefusedCredential{Kind: r.kind, Name: r.name, IP: r.ip.String(), Times: r.times,
			First: r.first, Last: r.last})
	}
	return list
}

// refused counts the rejections of a credential.
type refused struct {
	refusal
	times       int64
	first, last time.Time
}

// refusals holds the credentials that were rejected in the last 24 hours, so that an operator can find a program with an old credential.
// The list of rejected credentials exists only in the memory of this node, so untrusted requests cause no database writes.
type refusals struct {
	mu    sync.Mutex
	byKey map[refusal]*refused
}

const (
	// maxRefusals is the maximum number of remembered credentials, and refusalTime is their retention.
	maxRefusals = 1000
	refusalTime = 24 * time.Hour
)

func (l *refusals) note(r refusal, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[refusal]*refused{}
	}
	item := l.byKey[r]
	if item == nil {
		if len(l.byKey) >= maxRefusals {
			l.dropOne()
		}
		item = &refused{refusal: r, first: now}
		l.byKey[r] = item
	}
	item.times++
	item.last = now
}

// dropOne evicts the least frequent of a few sampled entries, so a program that fails often stays in the list of rejected
// credentials, even during an attack from many addresses.
func (l *refusals) dropOne() {
	var rarest *refused
	looked := 0
	for _, r := range l.byKey {
		if rarest == nil || r.times < rarest.times {
			rarest = r
		}
		looked++
		if looked == 8 {
			break
		}
	}
	delete(l.byKey, rarest.refusal)
}

// list returns the credentials that were rejected in the last 24 hours, the most frequent first.
func (l *refusals) list(now time.Time) (list []refused) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.byKey {
		if now.Sub(r.last) >= refusalTime {
			delete(l.byKey, key)
			continue
		}
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b refused) int {
		return cmp.Or(cmp.Compare(b.times, a.times), b.last.Compare(a.last), cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name),
			a.ip.Compare(b.ip))
	})
	return list
}
