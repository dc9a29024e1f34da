package cassette

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/emulator/seedfile"
)

// plainText replaces the placeholders in a masked text with generated values.
func plainText(masked string, t time.Time) string {
	return expand(masked, func(m mark) string { return m.standIn(t) })
}

// appID returns the AppID that an account or a platform has on the local server.
func (s *Fixture) appID(p *party, t time.Time) string { return p.appID.standIn(t) }

// secretOf returns the app secret that an account or a platform has on the local server.
func (s *Fixture) secretOf(p *party, t time.Time) string {
	if p.secret.n == 0 {
		return fmt.Sprintf("nobody-said-the-secret-of-%d", p.n)
	}
	return p.secret.standIn(t)
}

// Began returns the time of the first call or, if earlier, the time at which a recorded stable token was first fetched.
func (s *Fixture) Began() time.Time {
	began := s.lines[0].OccurredAt
	for _, token := range s.early {
		if token.at.Before(began) {
			began = token.at
		}
	}
	return began
}

// earlyToken is a stable token that was first fetched before the recording.
type earlyToken struct {
	at   time.Time
	line *Recorded
}

// stableSeconds is the lifetime of a stable token.
const stableSeconds = 7200

// learnStable records a stable token that is older than the call that returned the token.
func (s *Fixture) learnStable(r *Recorded) {
	left, ok := r.answer.field("expires_in").int()
	age := stableSeconds - left
	force := r.request.field("force_refresh").text == "true"
	token := asStandIn(r.answer.field("access_token"))
	if !ok || force || age <= aFewSeconds || age >= stableSeconds || token.n == 0 || s.owner[token.n] != 0 {
		return
	}
	s.early = append(s.early, earlyToken{r.OccurredAt.Add(-time.Duration(age) * time.Second), r})
}

// ForgetRules removes the rules from before the recording, and reports whether there were any.
func (s *Fixture) ForgetRules() bool {
	had := len(s.rules) > 0
	s.rules = nil
	return had
}

// Seed returns a seed file for a server on which the cassette can be played.
func (s *Fixture) Seed() []byte {
	t := s.Began()
	var seed seedfile.Seed
	for _, n := range slices.Sorted(maps.Keys(s.parties)) {
		p := s.parties[n]
		if p.platform {
			c := seedfile.Component{AppID: s.appID(p, t), Secret: s.secretOf(p, t), MessageToken: "token",
				EncodingAESKey: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}
			for _, to := range slices.Sorted(maps.Keys(p.grants)) {
				if g := p.grants[to]; g.before && len(g.sets) > 0 && !s.parties[to].platform {
					c.Authorizations = append(c.Authorizations,
						seedfile.Authorization{AppID: s.appID(s.parties[to], t), PermissionSets: g.sets})
				}
			}
			seed.Components = append(seed.Components, c)
			continue
		}
		a := accounts.SeedAccount{AppID: s.appID(p, t), AccountInput: accounts.AccountInput{Kind: accounts.MiniProgram,
			Subject: accounts.Company, Secret: s.secretOf(p, t), Certified: !p.uncertain || p.verified, Name: plainText(p.name, t),
			Options: p.options, OpenPlatform: p.openPlatform}}
		if p.service {
			a.Kind = accounts.ServiceAccount
			for _, to := range p.linked {
				a.Linked = append(a.Linked, s.appID(s.parties[to], t))
			}
		} else if p.follower {
			a.Kind = accounts.SubscriptionAccount
		} else if !p.draft || p.released {
			a.Versions = []accounts.Version{accounts.Release}
		}
		if p.codes {
			a.Features, a.MarketcodeKey = []string{"marketcode"}, "0123456789abcdef"
		}
		if p.personal {
			a.Subject = accounts.Personal
		}
		seed.Accounts = append(seed.Accounts, a)
	}
	seed.Rules = s.rules
	seed.Settings = map[string]any{"verification": "trust", "rule_rate_limit": nil, "allow_private_hosts": s.private}
	if s.ownLink {
		seed.Settings["behaviours"] = map[string]string{behaviour.LinkOwnTaken.String(): "allow"}
	}
	text, err := json.Marshal(seed)
	if err != nil {
		panic(err) // impossible: the seed contains only texts and numbers
	}
	return text
}
