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

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/iam"
)

// credentialKind describes a kind of credential that this server checks. A valid credential is always accepted, even after many invalid
// attempts from the same address. Invalid attempts are counted and logged; after twenty invalid attempts from an address within a minute,
// the response to a further one only says that there were too many. Passwords are an exception: after too many failed attempts they are not
// compared, because the comparison is expensive. TestThrottle_ValidCredentialPasses tests all kinds of credentials.
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

// refuse records an attempt with an invalid credential; name is the account, person or key that the credential is for, if known. If tooMany
// is true, the attempt is counted but not logged.
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

// refuseAt calls refuse for a credential that this package checks itself. tooMany reports whether there were too many attempts, which the
// response must then say.
func (s access) refuseAt(r *http.Request, d credentialKind, name string) (tooMany bool) {
	ip := s.clientIP(r)
	tooMany = s.secrets.guesses.RecordFailure(ip, d.name, s.realNow())
	s.refuse(r.Context(), d, name, ip, tooMany)
	return tooMany
}

// keyMark returns the first characters of an invalid key that begins with a prefix of its kind, by which an operator can recognise it.
// For another text, keyMark returns "", because the text may be a password or a valid key of another kind.
func keyMark(text string, prefixes ...string) string {
	const shown = 8
	for _, kind := range prefixes {
		if strings.HasPrefix(text, kind) && len(text) >= 4*shown {
			return text[:shown] + "…"
		}
	}
	return ""
}

// refusal identifies a rejected credential, with the address that the attempts come from.
type refusal struct {
	kind, name string
	ip         netip.Addr
}

// refusedCredentials returns the credentials that were rejected in the last 24 hours, for the admin API.
func (s access) refusedCredentials() []client.FailedAuthentication {
	return s.secrets.refusals.list(s.realNow())
}

// refusals holds the credentials that were rejected in the last 24 hours, so that an operator can find a program with an old credential.
// The list is kept only in this node's memory, so that requests without a valid credential cause no database writes.
type refusals struct {
	mu    sync.Mutex
	byKey map[refusal]*client.FailedAuthentication
}

const (
	// maxRefusals is the maximum number of credentials in the list; refusalTime is the time for which a credential stays in it.
	maxRefusals = 1000
	refusalTime = 24 * time.Hour
)

func (l *refusals) note(r refusal, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[refusal]*client.FailedAuthentication{}
	}
	item := l.byKey[r]
	if item == nil {
		if len(l.byKey) >= maxRefusals {
			l.dropOne()
		}
		item = &client.FailedAuthentication{Kind: r.kind, Name: r.name, IP: r.ip.String(), FirstAt: now}
		l.byKey[r] = item
	}
	item.Count++
	item.LastAt = now
}

// dropOne removes, of up to 8 random entries, the one with the fewest rejections. So a program that fails often stays in the list, even
// during an attack from many addresses.
func (l *refusals) dropOne() {
	var rarest refusal
	looked := 0
	for key, r := range l.byKey {
		if looked == 0 || r.Count < l.byKey[rarest].Count {
			rarest = key
		}
		looked++
		if looked == 8 {
			break
		}
	}
	delete(l.byKey, rarest)
}

// list returns the credentials that were rejected in the last 24 hours, the most frequent first.
func (l *refusals) list(now time.Time) []client.FailedAuthentication {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []client.FailedAuthentication{}
	for key, r := range l.byKey {
		if now.Sub(r.LastAt) >= refusalTime {
			delete(l.byKey, key)
			continue
		}
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b client.FailedAuthentication) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.LastAt.Compare(a.LastAt), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.IP, b.IP))
	})
	return list
}
