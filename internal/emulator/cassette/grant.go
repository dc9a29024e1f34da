package cassette

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// Account owners grant permissions to platforms in a browser, so a cassette contains no call that grants permissions. Before each
// call, the player therefore makes, on the local server, the grants that the recorded response shows.

// grant is the set of permissions that an account has granted to a platform.
type grant struct {
	before  bool  // the grant existed when the recording began
	guessed bool  // no response has shown the permission sets yet
	sets    []int // in order
	told    int   // number of the cassette line that showed the permission sets
	// refresh is the placeholder number of the refresh token; 0 = no response has shown the token yet.
	refresh int
}

// granting holds the grants that the player has made on the local server.
type granting struct {
	grants map[int]map[int]*grant // maps a platform and an account to the grant
	holder map[int]int            // maps an account to the platform that has the account's exclusiveSet
}

// granting returns the grants that the seed contains.
func (s *Fixture) granting() granting {
	all := granting{grants: map[int]map[int]*grant{}, holder: map[int]int{}}
	for n, p := range s.parties {
		for to, g := range p.grants {
			if !p.platform || !g.before || len(g.sets) == 0 || s.parties[to].platform {
				continue
			}
			if all.grants[n] == nil {
				all.grants[n] = map[int]*grant{}
			}
			all.grants[n][to] = &grant{sets: g.sets}
			if slices.Contains(g.sets, exclusiveSet) {
				all.holder[to] = n
			}
		}
	}
	return all
}

const listPath = componentPath + "api_get_authorizer_list"

// prepareInfo makes an account grant the platform the permission sets that the recorded response shows.
func (p *player) prepareInfo(ctx context.Context, r *Recorded) error {
	component := p.stage.parties[asStandIn(r.recorded("component_appid")).n]
	account := p.stage.parties[asStandIn(r.recorded("authorizer_appid")).n]
	if !r.worked() || component == nil || account == nil {
		return nil
	}
	info := r.answer.field("authorization_info")
	return p.allow(ctx, r, component, account, setsOf(info), asStandIn(info.field("authorizer_refresh_token")))
}

// prepareList makes the accounts in the recorded list authorize the platform. If the list is complete, the others revoke theirs.
func (p *player) prepareList(ctx context.Context, r *Recorded) error {
	component := p.stage.parties[asStandIn(r.recorded("component_appid")).n]
	if !r.worked() || component == nil {
		return nil
	}
	listed := map[int]bool{}
	for _, item := range r.answer.field("list").items {
		account := p.stage.parties[asStandIn(item.field("authorizer_appid")).n]
		if account == nil {
			continue
		}
		listed[account.n] = true
		if err := p.allow(ctx, r, component, account, nil, asStandIn(item.field("refresh_token"))); err != nil {
			return err
		}
	}
	if offset, total, _ := pageOf(r, r.answer); offset > 0 || total != len(listed) || len(listed) == len(p.grants[component.n]) {
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(p.grants[component.n])) {
		if !listed[n] {
			if err := p.end(ctx, component, p.stage.parties[n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// allow makes the account grant the permission sets (nil = any) to the platform, unless such a grant with this refresh token exists.
func (p *player) allow(ctx context.Context, r *Recorded, component, account *party, sets []int, refresh mark) error {
	has := p.grants[component.n][account.n]
	switch {
	case account.platform:
		return nil
	case has == nil:
	case sets != nil && !slices.Equal(has.sets, sets):
	case refresh.n != 0 && has.refresh != 0 && refresh.n != has.refresh: // the grant was revoked and made again
	default:
		has.refresh = cmp.Or(refresh.n, has.refresh)
		return nil
	}
	_, err := p.agree(ctx, r, component, account, sets, refresh)
	return err
}

// agree gives the account owner's consent on the local server and returns the authorization_code.
func (p *player) agree(ctx context.Context, r *Recorded, component, account *party, sets []int, refresh mark) (code string, err error) {
	has := p.grants[component.n][account.n]
	if has != nil {
		if sets == nil {
			sets = has.sets
		}
		if slices.Equal(has.sets, sets) && refresh.n != 0 && has.refresh != 0 && refresh.n != has.refresh {
			if err := p.end(ctx, component, account); err != nil {
				return "", err
			}
		}
	}
	if sets == nil {
		sets = p.stage.sets[refresh.n] // the permission sets that a later response shows
	}
	if sets == nil {
		sets = usualSets
		if holder := p.holder[account.n]; holder != 0 && holder != component.n {
			sets = withoutExclusive(sets)
		}
	}
	token := url.QueryEscape(p.text(r.query.field("component_access_token").text, r.OccurredAt))
	pre, err := p.wire(ctx, http.MethodPost, componentPath+"api_create_preauthcode?component_access_token="+token,
		fields("component_appid", p.appID(component)), "pre_auth_code")
	if err != nil {
		return "", err
	}
	agreed, err := p.ask(ctx, http.MethodPost, "/admin/v1/emulator/authorize", map[string]any{"component": p.appID(component),
		"pre_auth_code": pre, "appid": p.appID(account), "permission_sets": sets, "force_exclusive": true})
	if err != nil {
		return "", err
	}
	if slices.Contains(sets, exclusiveSet) {
		holder := p.holder[account.n]
		if otherGrant := p.grants[holder][account.n]; holder != component.n && otherGrant != nil {
			if otherGrant.sets = withoutExclusive(otherGrant.sets); len(otherGrant.sets) == 0 {
				delete(p.grants[holder], account.n)
			}
		}
		p.holder[account.n] = component.n
	} else if p.holder[account.n] == component.n {
		delete(p.holder, account.n)
	}
	if p.grants[component.n] == nil {
		p.grants[component.n] = map[int]*grant{}
	}
	p.grants[component.n][account.n] = &grant{sets: sets, refresh: refresh.n}
	return agreed.field("auth_code").text, nil
}

// end revokes the account's authorization of the platform.
func (p *player) end(ctx context.Context, component, account *party) error {
	delete(p.grants[component.n], account.n)
	if p.holder[account.n] == component.n {
		delete(p.holder, account.n)
	}
	_, err := p.ask(ctx, http.MethodDelete, "/admin/v1/components/"+url.PathEscape(p.appID(component))+"/authorizations/"+
		url.PathEscape(p.appID(account)), nil)
	if _, refused := errors.AsType[refusedError](err); refused {
		return nil // there was no authorization
	}
	return err
}

// pageOf returns the offset of a page of a list, the total number of accounts, and the number of accounts that the page should contain.
func pageOf(r *Recorded, answer value) (offset, total, want int) {
	offset, _ = r.recorded("offset").int()
	count, given := r.recorded("count").int()
	if !given {
		count = 500
	}
	total, _ = answer.field("total_count").int()
	return offset, total, max(0, min(count, total-offset))
}

// authorizers compares two lists of authorized accounts. The order of the platform's list is unknown, so authorizers matches the
// accounts by AppID. authorizers also checks the length of each page against the total_count of the same response.
func (c *comparison) authorizers(platform, local value) {
	form := func(v value) value {
		v.names, v.items = slices.Clone(v.names), slices.Clone(v.items)
		for i, name := range v.names {
			if name == "list" || name == "total_count" && v.items[i].kind == number {
				v.items[i] = value{kind: v.items[i].kind, text: "0"}
			}
		}
		return v
	}
	c.object("", form(platform), form(local))
	list, values := platform.field("list"), map[string]value{}
	offset, total, want := pageOf(c.line, platform)
	_, totalOurs, wantOurs := pageOf(c.line, local)
	if n, m := len(list.items), len(local.field("list").items); n != want && m == wantOurs {
		c.differ(Value, "list", fmt.Sprintf("%d of %d entries from %d", n, total, offset),
			fmt.Sprintf("%d of %d entries from %d", m, totalOurs, offset))
	}
	for _, item := range local.field("list").items {
		values[item.field("authorizer_appid").text] = item
	}
	for i, item := range list.items {
		if val, found := values[c.text(item.field("authorizer_appid").text, c.line.OccurredAt)]; found {
			c.value(fmt.Sprintf("list[%d]", i), "list", item, val)
		}
	}
}
