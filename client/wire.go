package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// WireError is a wire API response whose errcode is not 0.
type WireError struct {
	Code    int    // errcode
	Message string // Message is the errmsg without the hint and the request ID; empty for some codes of the real platform.
	RID     string // Request ID; "" if the response contains none.
}

func (e *WireError) Error() string {
	text := fmt.Sprintf("errcode %d", e.Code)
	if e.Message != "" {
		text += " " + e.Message
	}
	if e.RID != "" {
		text += " (rid " + e.RID + ")"
	}
	return text
}

// The errcodes to which the client itself reacts.
const (
	codeInvalidCredential  = 40001
	codeInvalidAccessToken = 40014
	codeTokenExpired       = 42001
	codeTooFrequent        = 44990
)

var ridAtEnd = regexp.MustCompile(`(?:,? ?(?:\.\.\. )?hint: \[[^\]]*\](?:\[[^\]]*\])?)?,? ?rid: ([0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8})$`)

func wireError(code int, message string) *WireError {
	e := &WireError{Code: code, Message: message}
	if m := ridAtEnd.FindStringSubmatchIndex(message); m != nil {
		e.RID, e.Message = message[m[2]:m[3]], message[:m[0]]
	}
	e.Message = strings.TrimSpace(e.Message)
	return e
}

// Token is an access token.
type Token struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // seconds
}

// GetToken issues a new access token for Options.AppID. The previous token remains valid for five more minutes; use GetStableToken if
// other programs make calls for the same account.
func (c WireService) GetToken(ctx context.Context) (Token, error) {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {c.options.AppID}, "secret": {c.options.Secret}}
	var t Token
	err := c.wire(ctx, request{method: http.MethodGet, path: "/cgi-bin/token", query: query}, maxAnswer, &t)
	return t, err
}

// GetStableToken returns the current token for Options.AppID and renews the token only shortly before its expiry, or if force is set.
func (c WireService) GetStableToken(ctx context.Context, force bool) (Token, error) {
	body, err := encode(struct {
		GrantType    string `json:"grant_type"`
		AppID        string `json:"appid"`
		Secret       string `json:"secret"`
		ForceRefresh bool   `json:"force_refresh"`
	}{"client_credential", c.options.AppID, c.options.Secret, force})
	if err != nil {
		return Token{}, err
	}
	var t Token
	err = c.wire(ctx, wirePost("/cgi-bin/stable_token", nil, body), maxAnswer, &t)
	return t, err
}

// OpenVersion is the version that a rule's test links open; it also determines which users may open the test links.
type OpenVersion int

// The values of OpenVersion.
const (
	OpenDevelopment OpenVersion = 1 // Developers open the development version.
	OpenTrial       OpenVersion = 2 // Administrators and trial users open the trial version.
	OpenRelease     OpenVersion = 3 // Administrators, developers and trial users open the release version.
)

// RuleDraft is the requested content of a rule.
type RuleDraft struct {
	Prefix string
	Path   string // Path of the page, for example pages/index/index.
	// AppID is the Mini Program to open. Only a service account's rule has an AppID; Occupy, OpenVersion and TestLinks exist only
	// for a Mini Program's rule.
	AppID       string
	Occupy      bool        // Other accounts may not add a rule below the prefix of the rule.
	OpenVersion OpenVersion // 0 = OpenRelease
	TestLinks   []string    // Test links, at most five; in an edit, nil keeps the existing test links, and an empty list removes them.
}

// CreateRule adds an unpublished rule.
func (c WireService) CreateRule(ctx context.Context, d RuleDraft) error { return c.saveRule(ctx, d, 0) }

// UpdateRule changes a rule. The page of a published rule cannot be changed, and a published rule of a service account cannot be
// changed at all: delete the rule and add it again.
func (c WireService) UpdateRule(ctx context.Context, d RuleDraft) error { return c.saveRule(ctx, d, 1) }

func (c *transport) saveRule(ctx context.Context, d RuleDraft, isEdit int) error {
	body := map[string]any{"prefix": d.Prefix, "path": d.Path, "is_edit": isEdit}
	if d.AppID != "" {
		body["appid"] = d.AppID
	} else {
		body["permit_sub_rule"], body["open_version"] = 1, OpenRelease
		if d.Occupy {
			body["permit_sub_rule"] = 2
		}
		if d.OpenVersion != 0 {
			body["open_version"] = d.OpenVersion
		}
		if d.TestLinks != nil {
			body["debug_url"] = d.TestLinks
		}
	}
	return c.call(ctx, "/cgi-bin/wxopen/qrcodejumpadd", body, nil)
}

// Rule is a rule in the format of a wire API list.
type Rule struct {
	Prefix      string      `json:"prefix"`
	Path        string      `json:"path"`
	Published   bool        `json:"published"`
	Occupy      bool        `json:"occupy"` // Occupy, OpenVersion and TestLinks exist only for a Mini Program's rule.
	OpenVersion OpenVersion `json:"open_version,omitempty"`
	TestLinks   []string    `json:"test_links,omitempty"`
}

// RuleList is the response of ListRules.
type RuleList struct {
	Rules         []Rule `json:"rules"`
	Total         int    `json:"total"`          // Number of all rules; Rules may contain only some of them.
	Open          bool   `json:"open"`           // If Open is false, jump rules are switched off for the account.
	PublishesLeft int    `json:"publishes_left"` // this month
}

// ListRequest selects the rules to list: the newest 10,000 rules, the rules with given Prefixes, or a page of all rules in the
// order of their creation.
type ListRequest struct {
	AppID    string   // For a service account: the AppID of the Mini Program that the listed rules open.
	Prefixes []string // At most 200 complete prefixes.
	Page     int      // Page numbers start at 1; Page requires PageSize.
	PageSize int      // at most 200
}

// ListRules lists rules of the calling account.
func (c WireService) ListRules(ctx context.Context, q ListRequest) (RuleList, error) {
	body := map[string]any{}
	if q.AppID != "" {
		body["appid"] = q.AppID
	}
	switch {
	case q.Prefixes != nil:
		body["get_type"], body["prefix_list"] = 1, q.Prefixes
	case q.Page != 0 || q.PageSize != 0:
		body["get_type"], body["page_num"], body["page_size"] = 2, q.Page, q.PageSize
	default:
		body["get_type"] = 0
	}
	var reply struct {
		RuleList []struct {
			Prefix        string   `json:"prefix"`
			Path          string   `json:"path"`
			State         int      `json:"state"`
			PermitSubRule int      `json:"permit_sub_rule" answer:"optional"`
			OpenVersion   int      `json:"open_version" answer:"optional"`
			DebugURL      []string `json:"debug_url" answer:"optional"`
		} `json:"rule_list"`
		Open  int `json:"qrcodejump_open"`
		Quota int `json:"qrcodejump_pub_quota"`
		Total int `json:"total_count" answer:"optional"` // Contract: rules §1.3: some documented samples lack this field.
	}
	if err := c.call(ctx, "/cgi-bin/wxopen/qrcodejumpget", body, &reply); err != nil {
		return RuleList{}, err
	}
	list := RuleList{Rules: []Rule{}, Total: reply.Total, Open: reply.Open == 1, PublishesLeft: reply.Quota}
	for _, r := range reply.RuleList {
		list.Rules = append(list.Rules, Rule{Prefix: r.Prefix, Path: r.Path, Published: r.State == 2,
			Occupy: r.PermitSubRule == 2, OpenVersion: OpenVersion(r.OpenVersion), TestLinks: r.DebugURL})
	}
	return list, nil
}

// ErrRulesChanged is the error of ListAllRules for rules that were added or deleted during each of its attempts.
var ErrRulesChanged = errors.New("rules were added or deleted during three attempts to list them")

// ListAllRules lists all rules in the order of their creation, with as many calls as necessary; if the rules change in the meantime,
// ListAllRules starts over, at most twice. appid has the same meaning as in ListRequest.
func (c WireService) ListAllRules(ctx context.Context, appid string) (RuleList, error) {
	const newest = 10_000
	list, err := c.ListRules(ctx, ListRequest{AppID: appid})
	if err != nil || list.Total <= len(list.Rules) && len(list.Rules) < newest {
		slices.Reverse(list.Rules) // The response lists the newest rule first.
		return list, err
	}
	for range 3 {
		list, complete, err := c.listPages(ctx, appid)
		if err != nil || complete {
			return list, err
		}
	}
	return RuleList{}, ErrRulesChanged
}

// listPages lists all rules page by page. If the rules changed in the meantime, complete is false.
func (c WireService) listPages(ctx context.Context, appid string) (all RuleList, complete bool, err error) {
	const pageSize = 200
	seen, rules := map[string]bool{}, []Rule{}
	for page := 1; ; page++ {
		all, err = c.ListRules(ctx, ListRequest{AppID: appid, Page: page, PageSize: pageSize})
		if err != nil {
			return RuleList{}, false, err
		}
		for _, r := range all.Rules {
			seen[r.Prefix] = true
		}
		rules = append(rules, all.Rules...)
		if len(all.Rules) < pageSize {
			all.Rules = rules
			// The platform sometimes omits the total.
			return all, len(seen) == len(rules) && (all.Total == 0 || all.Total == len(rules)), nil
		}
	}
}

// PublishRule publishes a rule, so that the rule works for all users. PublishRule uses up one publish of this month's quota, unless
// the rule is published already.
func (c WireService) PublishRule(ctx context.Context, prefix string) error {
	return c.call(ctx, "/cgi-bin/wxopen/qrcodejumppublish", map[string]any{"prefix": prefix}, nil)
}

// DeleteRule deletes a rule immediately. appid is the Mini Program that a service account's rule opens; "" for a Mini Program's rule.
func (c WireService) DeleteRule(ctx context.Context, prefix, appid string) error {
	body := map[string]any{"prefix": prefix}
	if appid != "" {
		body["appid"] = appid
	}
	return c.call(ctx, "/cgi-bin/wxopen/qrcodejumpdelete", body, nil)
}

// VerificationFile is the verification file of an account. The verification file must be accessible in the directory of a prefix before
// the rule is added.
type VerificationFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// GetVerificationFile returns the account's verification file, which never changes.
func (c WireService) GetVerificationFile(ctx context.Context) (VerificationFile, error) {
	var reply struct {
		Name    string `json:"file_name"`
		Content string `json:"file_content"`
	}
	err := c.call(ctx, "/cgi-bin/wxopen/qrcodejumpdownload", map[string]any{}, &reply)
	return VerificationFile(reply), err
}

func wirePost(path string, query url.Values, body []byte) request {
	return request{method: http.MethodPost, path: path, query: query, contentType: "application/json", body: bytes.NewReader(body)}
}

// Authorizer is an account that authorised a third-party platform.
type Authorizer struct {
	AppID        string `json:"authorizer_appid"`
	RefreshToken string `json:"refresh_token"`
}

// ListAuthorizers lists the accounts that authorised a platform; Options.AccessToken is the platform's component_access_token.
func (c WireService) ListAuthorizers(ctx context.Context, component string) (all []Authorizer, err error) {
	for {
		var page struct {
			Total int          `json:"total_count"`
			List  []Authorizer `json:"list"`
		}
		err := c.callWith(ctx, "component_access_token", "/cgi-bin/component/api_get_authorizer_list",
			map[string]any{"component_appid": component, "offset": len(all), "count": 500}, &page)
		all = append(all, page.List...)
		if err != nil || len(page.List) == 0 || len(all) >= page.Total {
			return all, err
		}
	}
}

// GetAuthorizerToken issues a token with which the platform makes calls for an account; see ListAuthorizers.
func (c WireService) GetAuthorizerToken(ctx context.Context, component, appid, refreshToken string) (string, error) {
	var reply struct {
		Token string `json:"authorizer_access_token"`
	}
	err := c.callWith(ctx, "component_access_token", "/cgi-bin/component/api_authorizer_token", map[string]any{
		"component_appid": component, "authorizer_appid": appid, "authorizer_refresh_token": refreshToken}, &reply)
	return reply.Token, err
}

// call makes a call with the account's token.
func (c *transport) call(ctx context.Context, path string, body map[string]any, reply any) error {
	return c.callWith(ctx, "access_token", path, body, reply)
}

// callWith makes a call like call, with the token in the query parameter with a given name.
func (c *transport) callWith(ctx context.Context, name, path string, body map[string]any, reply any) error {
	raw, err := encode(body)
	if err != nil {
		return err
	}
	return c.authorized(ctx, func(token string) error {
		return c.wire(ctx, wirePost(path, url.Values{name: {token}}, raw), maxList, reply)
	})
}

// authorized makes a call with the account's token. If the token is rejected, authorized renews it once and repeats the call, which
// is safe because a rejected call has no effect.
func (c *transport) authorized(ctx context.Context, call func(token string) error) error {
	for retries, renewed := 0, false; ; {
		token, err := c.accessToken(ctx)
		if err != nil {
			return err
		}
		err = call(token)
		refused, ok := errors.AsType[*WireError](err)
		switch {
		case !ok:
			return err
		case refused.Code == codeTooFrequent && retries < c.options.RateRetries:
			retries++
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		case slices.Contains([]int{codeInvalidCredential, codeInvalidAccessToken, codeTokenExpired}, refused.Code) &&
			c.options.AccessToken == "" && !renewed:
			renewed = true
			c.forget(token)
		default:
			return err
		}
	}
}

// accessToken returns the token for wire API calls and fetches a token if necessary.
func (c *transport) accessToken(ctx context.Context) (string, error) {
	if c.options.AccessToken != "" {
		return c.options.AccessToken, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == "" {
		t, err := WireService{c}.GetStableToken(ctx, false)
		if err != nil {
			return "", err
		}
		c.token = t.AccessToken
	}
	return c.token, nil
}

// forget discards a rejected token, unless another call has renewed it already.
func (c *transport) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// wire makes a call and decodes the response into reply; the error is a *WireError if the errcode is not 0. If reply is nil, a
// successful response must contain an errcode; otherwise, it must contain the fields of reply.
func (c *transport) wire(ctx context.Context, r request, limit int64, reply any) error {
	a, err := c.send(ctx, r, limit)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return c.notTheWire(r, a)
	}
	var envelope struct {
		ErrCode *int   `json:"errcode"`
		ErrMsg  string `json:"errmsg" answer:"optional"`
	}
	err = decode(a.body, &envelope, true)
	switch {
	case err != nil:
	case envelope.ErrCode != nil && *envelope.ErrCode != 0:
		return wireError(*envelope.ErrCode, envelope.ErrMsg)
	case reply != nil:
		err = decode(a.body, reply, true)
	case envelope.ErrCode == nil:
		err = errors.New("errcode is missing in " + excerpt(a.body))
	}
	if err != nil {
		return c.invalidResponse(r.method, r.path, "%v", err)
	}
	return nil
}

// notTheWire returns the error for a response whose status is not 200. All responses of the wire API have status 200.
func (c *transport) notTheWire(r request, a answer) error {
	err := c.refused(r.method, r.path, a)
	if p, ok := errors.AsType[*Problem](err); ok {
		return c.invalidResponse(r.method, r.path, "%v", p)
	}
	return err
}
