package cassette

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// prepare creates, on the local server, the state that a call requires and that no earlier cassette call has created: a verify
// ticket, an owner's consent or a scan. missing is the reason if this is impossible.
func (p *player) prepare(ctx context.Context, r *Recorded) (missing string, err error) {
	defer func() {
		if refused, ok := errors.AsType[refusedError](err); ok {
			missing, err = "our server cannot be brought to where the platform was: "+refused.text, nil
		}
	}()
	if err := p.prepareTokens(ctx, r); err != nil {
		return "", err
	}
	if missing := p.fromBefore(r); missing != "" {
		return missing, nil
	}
	if r.number() == errcode.NotAuthorizing.Number {
		if err := p.revoke(ctx, r); err != nil {
			return "", err
		}
	}
	switch call := strings.TrimPrefix(r.Path, componentPath); call {
	case "api_component_token":
		return p.prepareTicket(ctx, r)
	case "api_query_auth":
		return p.prepareCode(ctx, r)
	case "api_authorizer_token":
		return "", p.prepareRefresh(ctx, r)
	case "api_get_authorizer_info":
		return "", p.prepareInfo(ctx, r)
	case "api_get_authorizer_list":
		return "", p.prepareList(ctx, r)
	case "/sns/jscode2session", platformLoginPath:
		return p.prepareLogin(ctx, r)
	case "/intp/marketcode/tickettocode":
		return "", p.prepareScan(ctx, r)
	case "/intp/marketcode/codeactivequery":
		return p.prepareQuery(ctx, r)
	case linksPath:
		return "", p.prepareLinks(ctx, r)
	case "/cgi-bin/openapi/quota/get":
		return "", p.prepareRate(ctx, r)
	case "/cgi-bin/openapi/rid/get":
		if m := asStandIn(r.recorded("rid")); m.n != 0 && !p.isBound(m) && (r.worked() || r.number() == errcode.RIDForbidden.Number) {
			return "the call of this rid was made before the recording began", nil
		}
	case "/cgi-bin/showqrcode":
		if m := asStandIn(r.query.field("ticket")); m.n != 0 && !p.isBound(m) && r.Status == http.StatusOK && r.answer.kind != object {
			return "the ticket was made before the recording began", nil
		}
	}
	return "", nil
}

// fromBefore returns an error text if a call needs a token or an application that is older than the recording and cannot be created
// again.
func (p *player) fromBefore(r *Recorded) (missing string) {
	token := asStandIn(r.query.field("access_token"))
	if token.n == 0 {
		token = asStandIn(r.query.field("component_access_token"))
	}
	if token.n != 0 && (!p.isBound(token) || p.madeUp[token.n]) && r.number() == errcode.TokenExpired.Number {
		return "the token was fetched before the recording began"
	}
	if strings.HasPrefix(r.Path, componentPath) && token.n != 0 && !p.isBound(token) && r.platformToken().n == 0 {
		// the token is from before the recording, and no field shows to which platform the token belongs
		return "the token was fetched before the recording began"
	}
	if !strings.HasPrefix(r.Path, marketcodePath) {
		return ""
	}
	numbers := []int{0, errcode.NotOwnApplication.Number, errcode.ActivationOverlaps.Number, errcode.CodeNotActive.Number,
		errcode.ActivationFailed.Number, errcode.IndexBeyond.Number, errcode.ApplicationExists.Number, errcode.NoSegment.Number}
	if !slices.Contains(numbers, r.number()) || r.Path == marketcodePath+"applycode" && r.worked() {
		return ""
	}
	for _, name := range []string{"application_id", "isv_application_id"} {
		if m := asStandIn(r.recorded(name)); m.n != 0 && !p.isBound(m) || name == "isv_application_id" && m.n != 0 && !p.applied[m.n] {
			return "the application was made before the recording began"
		}
	}
	return ""
}

const marketcodePath = "/intp/marketcode/"

// prepareLinks creates the links that existed before the recording and that a seed file cannot express.
func (p *player) prepareLinks(ctx context.Context, r *Recorded) error {
	token, caller := url.QueryEscape(p.text(r.query.field("access_token").text, r.OccurredAt)), p.stage.caller(r)
	for _, link := range p.stage.odd[r.Number] {
		path := "/admin/v1/accounts/" + url.PathEscape(p.appID(caller)) + "/links/" + url.PathEscape(p.appID(link.to))
		calls := []func() error{
			func() error { return p.sendAdmin(ctx, http.MethodDelete, path, nil) },
			func() error {
				return p.sendAdmin(ctx, http.MethodPut, "/admin/v1/settings", map[string]bool{"link_approval_required": link.status != 1})
			},
			func() error {
				_, err := p.wire(ctx, http.MethodPost, "/cgi-bin/wxopen/wxamplink?access_token="+token,
					fmt.Appendf(nil, `{"appid":%q,"notify_users":0,"show_profile":%d}`, p.appID(link.to), link.show), "errmsg")
				return err
			},
			func() error {
				return p.sendAdmin(ctx, http.MethodPut, "/admin/v1/settings", map[string]bool{"link_approval_required": false})
			},
		}
		if link.status == 2 || link.status == 3 {
			calls = append(calls, func() error {
				return p.sendAdmin(ctx, http.MethodPost, path+"/confirm", map[string]any{"side": "account", "approve": link.status == 2})
			})
		}
		for _, call := range calls {
			if err := call(); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareRate sets the rate limit per second that a recorded quota/get response shows; endRate removes the limit. Calls other than
// quota/get are replayed without a rate limit, because the player sends calls faster than they were recorded.
func (p *player) prepareRate(ctx context.Context, r *Recorded) error {
	limit := r.answer.field("rate_limit")
	calls, _ := limit.field("call_count").int()
	if seconds, ok := limit.field("refresh_second").int(); !ok || seconds != 1 || calls < 1 {
		return nil
	}
	p.limited = "default_rate_limit"
	if strings.HasPrefix(r.recorded("cgi_path").text, rulePath) {
		p.limited = "rule_rate_limit"
	}
	return p.sendAdmin(ctx, http.MethodPut, "/admin/v1/settings", map[string]int{p.limited: calls})
}

// endRate removes the rate limit that prepareRate has set.
func (p *player) endRate(ctx context.Context) error {
	if p.limited == "" {
		return nil
	}
	name := p.limited
	p.limited = ""
	return p.sendAdmin(ctx, http.MethodPut, "/admin/v1/settings", map[string]any{name: nil})
}

// sendAdmin calls the local server's admin API and ignores the response body.
func (p *player) sendAdmin(ctx context.Context, method, path string, body any) error {
	_, err := p.ask(ctx, method, path, body)
	return err
}

// prepareTokens fetches a token from the local server in place of a token that was fetched before the recording began.
func (p *player) prepareTokens(ctx context.Context, r *Recorded) error {
	m := r.platformToken()
	placeholder := asStandIn(r.query.field("access_token"))
	if placeholder.n != 0 && placeholder != m && !p.isBound(placeholder) && !strings.HasPrefix(r.Path, componentPath) {
		if caller := p.stage.caller(r); caller != nil && !caller.platform {
			token, err := p.fetch(ctx, caller)
			if err != nil {
				return err
			}
			p.bind(placeholder.n, token)
		}
	}
	if m.n == 0 || p.isBound(m) || r.Error != "" || slices.Contains(badToken, r.number()) {
		return nil
	}
	if component := p.stage.parties[asStandIn(r.recorded("component_appid")).n]; component != nil && component.platform {
		token, err := p.componentToken(ctx, component)
		if err != nil {
			return err
		}
		p.bind(m.n, token)
	}
	return nil
}

// revoke ends, on the local server, the authorization that the account revoked on the platform before the recorded call.
func (p *player) revoke(ctx context.Context, r *Recorded) error {
	token := asStandIn(r.query.field("access_token")).n
	component, account := p.stage.parties[p.stage.agent[token]], p.stage.parties[p.stage.owner[token]]
	if token == 0 {
		component = p.stage.parties[asStandIn(r.recorded("component_appid")).n]
		account = p.stage.parties[asStandIn(r.authorizer()).n]
	}
	if component == nil || account == nil {
		return nil
	}
	return p.end(ctx, component, account)
}

// appID returns the AppID that an account or a platform has on the local server, as in the seed.
func (p *player) appID(item *party) string {
	id := p.stage.appID(item, p.stage.Began())
	if item.n > 0 {
		p.bind(item.n, id)
	}
	return id
}

// wire makes an unrecorded API call to the local server, and returns the text at names, a path of nested fields in the response.
func (p *player) wire(ctx context.Context, method, path string, body []byte, names ...string) (string, error) {
	p.forgetPath(path)
	a, err := exchange(ctx, method, p.server.URL+path, body, http.Header{})
	if err != nil {
		return "", err
	}
	if found := a.value.lookup(names...).text; found != "" {
		return found, nil
	}
	path, _, _ = strings.Cut(path, "?")
	return "", refusedError{fmt.Sprintf("%s: %.200s", path, a.raw)}
}

func (p *player) fetch(ctx context.Context, caller *party) (string, error) {
	return p.wire(ctx, http.MethodGet, "/cgi-bin/token?grant_type=client_credential&appid="+url.QueryEscape(p.appID(caller))+"&secret="+
		url.QueryEscape(p.stage.secretOf(caller, p.stage.Began())), nil, "access_token")
}

func fields(pairs ...string) []byte {
	v := value{kind: object}
	for i := 0; i < len(pairs); i += 2 {
		v.names, v.items = append(v.names, pairs[i]), append(v.items, value{kind: text, text: pairs[i+1]})
	}
	return v.json()
}

func (p *player) ticket(ctx context.Context, component *party) (string, error) {
	made, err := p.ask(ctx, http.MethodPost, "/admin/v1/emulator/ticket", map[string]string{"component": p.appID(component)})
	return made.field("component_verify_ticket").text, err
}

func (p *player) componentToken(ctx context.Context, component *party) (string, error) {
	ticket, err := p.ticket(ctx, component)
	if err != nil {
		return "", err
	}
	return p.wire(ctx, http.MethodPost, componentPath+"api_component_token", fields("component_appid", p.appID(component),
		"component_appsecret", p.stage.secretOf(component, p.stage.Began()), "component_verify_ticket", ticket), "component_access_token")
}

// prepareTicket makes the local server push the verify ticket that the recorded call uses.
func (p *player) prepareTicket(ctx context.Context, r *Recorded) (missing string, err error) {
	m := asStandIn(r.recorded("component_verify_ticket"))
	component := p.stage.parties[asStandIn(r.recorded("component_appid")).n]
	switch {
	case m.n == 0 || p.isBound(m):
	case r.number() == errcode.TicketExpired.Number:
		return "the ticket was pushed before the recording began", nil
	case r.worked() && component != nil:
		ticket, err := p.ticket(ctx, component)
		if err != nil {
			return "", err
		}
		p.bind(m.n, ticket)
	}
	return "", nil
}

// prepareCode gives the owner's consent that the recorded response shows, and binds the resulting authorization_code.
func (p *player) prepareCode(ctx context.Context, r *Recorded) (missing string, err error) {
	m := asStandIn(r.recorded("authorization_code"))
	if m.n == 0 || p.isBound(m) {
		return "", nil
	}
	if r.number() == errcode.GrantCodeExpired.Number {
		return "the code was made before the recording began", nil
	}
	info := r.answer.field("authorization_info")
	component := p.stage.parties[asStandIn(r.recorded("component_appid")).n]
	account := p.stage.parties[asStandIn(info.field("authorizer_appid")).n]
	if !r.worked() || component == nil || account == nil {
		return "", nil
	}
	code, err := p.agree(ctx, r, component, account, setsOf(info), asStandIn(info.field("authorizer_refresh_token")))
	if err == nil {
		p.bind(m.n, code)
	}
	return "", err
}

// prepareRefresh reads the refresh token of an account's authorization from the local server.
func (p *player) prepareRefresh(ctx context.Context, r *Recorded) error {
	m := asStandIn(r.recorded("authorizer_refresh_token"))
	if m.n == 0 || p.isBound(m) || !r.worked() {
		return nil
	}
	component := p.stage.parties[asStandIn(r.recorded("component_appid")).n]
	account := p.stage.parties[asStandIn(r.recorded("authorizer_appid")).n]
	if component == nil || account == nil {
		return nil
	}
	if err := p.allow(ctx, r, component, account, nil, m); err != nil {
		return err
	}
	token := url.QueryEscape(p.text(r.query.field("component_access_token").text, r.OccurredAt))
	refresh, err := p.wire(ctx, http.MethodPost, componentPath+"api_get_authorizer_info?component_access_token="+token,
		fields("component_appid", p.appID(component), "authorizer_appid", p.appID(account)),
		"authorization_info", "authorizer_refresh_token")
	if err == nil {
		p.bind(m.n, refresh)
	}
	return err
}

// user returns the test user id for the placeholder of an openid.
func user(openid mark) string { return fmt.Sprintf("user-%d", openid.n) }

// prepareLogin logs in the user whose js_code the recorded call exchanges.
func (p *player) prepareLogin(ctx context.Context, r *Recorded) (missing string, err error) {
	m := asStandIn(r.recorded("js_code"))
	if m.n == 0 || p.isBound(m) {
		return "", nil
	}
	if r.number() == errcode.LoginCodeUsed.Number {
		return "the code was used before the recording began", nil
	}
	account := p.stage.parties[asStandIn(r.recorded("appid")).n]
	if !r.worked() || account == nil {
		return "", nil
	}
	made, err := p.ask(ctx, http.MethodPost, "/scan/v1/login", map[string]string{"user": user(asStandIn(r.answer.field("openid"))),
		"appid": p.appID(account)})
	if err == nil {
		p.bind(m.n, made.field("js_code").text)
	}
	return "", err
}

// code looks up, on the local server, the code that a recorded response describes.
func (p *player) code(ctx context.Context, r *Recorded) (value, error) {
	id, err := p.applicationOf(r)
	if err != nil {
		return value{}, err
	}
	name := map[string]any{"application_id": id}
	if m := asStandIn(r.answer.field("code")); p.isBound(m) {
		name["code"] = p.bound[m.n]
	} else {
		name["code_index"], _ = r.answer.field("code_start").int()
	}
	return p.ask(ctx, http.MethodPost, "/admin/v1/codes/lookup", name)
}

func (p *player) applicationOf(r *Recorded) (id int, err error) {
	m := asStandIn(r.answer.field("application_id"))
	if m.n == 0 || !p.isBound(m) {
		return 0, refusedError{"the application was made before the recording began"}
	}
	id, _ = (value{kind: number, text: p.bound[m.n]}).int()
	return id, nil
}

// prepareScan makes the user scan the code whose code_ticket the recorded call exchanges.
func (p *player) prepareScan(ctx context.Context, r *Recorded) error {
	ticket, openid := asStandIn(r.recorded("code_ticket")), asStandIn(r.recorded("openid"))
	if ticket.n == 0 || p.isBound(ticket) || !r.worked() {
		return nil
	}
	code, err := p.code(ctx, r)
	if err != nil {
		return err
	}
	actor := user(openid)
	opened, err := p.ask(ctx, http.MethodPost, "/scan/v1/resolve", map[string]string{"text": code.field("code_url").text, "user": actor})
	if err != nil {
		return err
	}
	_, made, _ := strings.Cut(opened.field("path").text, "code_ticket=")
	made, _, _ = strings.Cut(made, "&")
	if made == "" {
		return refusedError{"a scan of the code opens " + opened.field("action").text}
	}
	p.bind(ticket.n, made)
	if caller := p.stage.caller(r); caller != nil && openid.n != 0 && !p.isBound(openid) {
		known, err := p.ask(ctx, http.MethodGet, "/admin/v1/users/"+actor+"/openid?appid="+url.QueryEscape(p.appID(caller)), nil)
		if err != nil {
			return err
		}
		p.bind(openid.n, known.field("openid").text)
	}
	return nil
}

// prepareQuery looks up the text of a code on the local server if the recorded call identifies the code by its text.
func (p *player) prepareQuery(ctx context.Context, r *Recorded) (missing string, err error) {
	for _, name := range []string{"code_url", "code"} {
		m := asStandIn(r.recorded(name))
		switch {
		case m.n == 0 || p.isBound(m) || r.number() == errcode.CodeMalformed.Number:
			continue
		case !r.worked():
			return "the text of the code is on no line", nil
		}
		code, err := p.code(ctx, r)
		if err != nil {
			return "", err
		}
		found := code.field(name).text
		for _, scheme := range []string{"http://", "https://"} { // some apps add the scheme to the text of a code
			if m.length == len(scheme)+len(found) {
				found = scheme + found
			}
		}
		p.bind(m.n, found)
	}
	return "", nil
}
