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

// WireError is an answer of the wire whose errcode is not 0.
type WireError struct {
	Code    int    // errcode
	Message string // errmsg without the request id and the hint before it; some codes of the real platform have none
	RID     string // request id; "" where the answer names none
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

// Codes that a caller acts on.
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

// GetToken issues a new access token for Options.AppID. The one before works five
// minutes more: prefer GetStableToken where others call for the same account.
func (c WireService) GetToken(ctx context.Context) (Token, error) {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {c.options.AppID}, "secret": {c.options.Secret}}
	var t Token
	err := c.wire(ctx, request{method: http.MethodGet, path: "/cgi-bin/token", query: query}, maxAnswer, &t)
	return t, err
}

// GetStableToken returns the token in force for Options.AppID and renews it only
// near its end, or when force is set.
func (c WireService) GetStableToken(ctx context.Context, force bool) (Token, error) {
	return c.stableToken(ctx, force)
}

func (c *transport) stableToken(ctx context.Context, force bool) (Token, error) {
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

// OpenVersion selects the users who may open a rule's test links, and the version.
type OpenVersion int

// The test ranges of a rule.
const (
	OpenDevelopment OpenVersion = 1 // developers, the development version
	OpenTrial       OpenVersion = 2 // administrators and trial users, the trial version
	OpenRelease     OpenVersion = 3 // administrators, developers and trial users, the release
)

// RuleDraft is the requested content of a rule.
type RuleDraft struct {
	Prefix string
	Path   string // page, for example pages/index/index
	// AppID is the Mini Program to open. Only a service account's rule has it;
	// the three fields below are an ordinary rule's only.
	AppID       string
	Occupy      bool        // other accounts may not set a rule below
	OpenVersion OpenVersion // 0 = OpenRelease
	TestLinks   []string    // at most five; on an edit nil keeps those that are there, an empty list clears them
}

// CreateRule adds a rule, unpublished.
func (c WireService) CreateRule(ctx context.Context, d RuleDraft) error { return c.saveRule(ctx, d, 0) }

// UpdateRule changes a rule. The page of a published rule cannot change, and of a published
// service-account rule nothing can: delete it and add it again.
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

// Rule is a rule as the wire lists it.
type Rule struct {
	Prefix      string      `json:"prefix"`
	Path        string      `json:"path"`
	Published   bool        `json:"published"`
	Occupy      bool        `json:"occupy"` // the last three are an ordinary rule's only
	OpenVersion OpenVersion `json:"open_version,omitempty"`
	TestLinks   []string    `json:"test_links,omitempty"`
}

// RuleList is one answer of ListRules.
type RuleList struct {
	Rules         []Rule `json:"rules"`
	Total         int    `json:"total"`          // of all rules, of which Rules may be a part
	Open          bool   `json:"open"`           // false: jumping is switched off for the account
	PublishesLeft int    `json:"publishes_left"` // this month
}

// ListRequest says which rules to list: the newest 10,000, those of Prefixes,
// or a page of all in the order of being added.
type ListRequest struct {
	AppID    string   // service accounts: the rules that open this Mini Program
	Prefixes []string // at most 200, whole prefixes
	Page     int      // from 1, together with PageSize
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
		Total int `json:"total_count" answer:"optional"` // Contract: rules 1.3: not in every sample
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

// ListAllRules lists every rule in the order of being added, with as many calls as
// that takes. appid is as in ListRequest.
func (c WireService) ListAllRules(ctx context.Context, appid string) (RuleList, error) {
	const pageSize = 200
	list, err := c.ListRules(ctx, ListRequest{AppID: appid})
	if err != nil {
		return RuleList{}, err
	}
	if list.Total <= len(list.Rules) {
		slices.Reverse(list.Rules) // they come newest first
		return list, nil
	}
	all := []Rule{}
	for page := 1; ; page++ {
		list, err = c.ListRules(ctx, ListRequest{AppID: appid, Page: page, PageSize: pageSize})
		if err != nil {
			return RuleList{}, err
		}
		all = append(all, list.Rules...)
		if len(list.Rules) < pageSize {
			list.Rules = all
			return list, nil
		}
	}
}

// PublishRule makes a rule live for everybody. It spends one of the month's
// publishes, unless the rule is live already.
func (c WireService) PublishRule(ctx context.Context, prefix string) error {
	return c.call(ctx, "/cgi-bin/wxopen/qrcodejumppublish", map[string]any{"prefix": prefix}, nil)
}

// DeleteRule deletes a rule at once. appid is the Mini Program that a service
// account's rule opens, "" for an ordinary rule.
func (c WireService) DeleteRule(ctx context.Context, prefix, appid string) error {
	body := map[string]any{"prefix": prefix}
	if appid != "" {
		body["appid"] = appid
	}
	return c.call(ctx, "/cgi-bin/wxopen/qrcodejumpdelete", body, nil)
}

// ConfirmFile is the verification file of an account. It must be readable in
// the directory of a prefix before the rule is added.
type ConfirmFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// GetVerificationFile returns the account's verification file, the same every time.
func (c WireService) GetVerificationFile(ctx context.Context) (ConfirmFile, error) {
	var reply struct {
		Name    string `json:"file_name"`
		Content string `json:"file_content"`
	}
	err := c.call(ctx, "/cgi-bin/wxopen/qrcodejumpdownload", map[string]any{}, &reply)
	return ConfirmFile(reply), err
}

func wirePost(path string, query url.Values, body []byte) request {
	return request{method: http.MethodPost, path: path, query: query, contentType: "application/json", body: bytes.NewReader(body)}
}

// call makes a call with the account's token.
func (c *transport) call(ctx context.Context, path string, body map[string]any, reply any) error {
	raw, err := encode(body)
	if err != nil {
		return err
	}
	return c.authorized(ctx, func(token string) error {
		return c.wire(ctx, wirePost(path, url.Values{"access_token": {token}}, raw), maxList, reply)
	})
}

// authorized makes a call with the account's token. A token that is refused is
// renewed once: every refusal means that nothing was done.
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
			if err := pause(ctx, time.Second); err != nil {
				return err
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

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// accessToken returns the token for wire calls and fetches it where needed.
func (c *transport) accessToken(ctx context.Context) (string, error) {
	if c.options.AccessToken != "" {
		return c.options.AccessToken, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == "" {
		t, err := c.stableToken(ctx, false)
		if err != nil {
			return "", err
		}
		c.token = t.AccessToken
	}
	return c.token, nil
}

// forget drops a token that was refused, unless another call renewed it.
func (c *transport) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// wire makes a call and reads the answer into reply: *WireError if its errcode is not 0. A
// successful answer has an errcode where reply is nil, else the fields of reply: answers with a
// token have no errcode.
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
	flaw := decode(a.body, &envelope, true)
	switch {
	case flaw != "":
	case envelope.ErrCode != nil && *envelope.ErrCode != 0:
		return wireError(*envelope.ErrCode, envelope.ErrMsg)
	case reply != nil:
		flaw = decode(a.body, reply, true)
	case envelope.ErrCode == nil:
		flaw = "errcode is missing in " + excerpt(a.body)
	}
	if flaw != "" {
		return c.wrong(r.method, r.path, "%s", flaw)
	}
	return nil
}

// notTheWire returns the error for an answer with another status than 200, which every answer of the
// wire has.
func (c *transport) notTheWire(r request, a answer) error {
	err := c.refused(r.method, r.path, a)
	if p, ok := errors.AsType[*Problem](err); ok {
		return c.wrong(r.method, r.path, "%v", p)
	}
	return err
}
