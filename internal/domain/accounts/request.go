package accounts

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Request contains the parameters of a link to the authorisation page. Contract: rules §3.2.
type Request struct {
	Component   Component
	PreAuthCode string
	Back        *url.URL // return URL: the page to which the user is redirected
	Kinds       []Kind
	Only        string // the only account that may authorise; "" = the user chooses
	Sets        []int
}

// BadRequest describes the error in a link to the authorisation page, as a text for the user.
type BadRequest struct{ i18n.Message }

func (b BadRequest) Error() string { return b.String() }

// ReadRequest parses and validates the query of a link to the authorisation page. ReadRequest returns the errors BadRequest and Invalid.
func (d *Service) ReadRequest(ctx context.Context, q url.Values) (asked Request, err error) {
	asked.Component, err = d.GetComponent(ctx, q.Get("component_appid"))
	if errors.Is(err, ErrNoComponent) {
		return asked, BadRequest{catalog.Text("request.component")}
	}
	if err != nil {
		return asked, err
	}
	// The return URL is checked before the pre_auth_code: the response to a wrong URL must not reveal whether the code is valid.
	var ok bool
	if asked.Back, ok = backTo(asked.Component.RedirectHosts, q.Get("redirect_uri")); !ok {
		return asked, BadRequest{catalog.Text("request.redirect_uri")}
	}
	asked.PreAuthCode = q.Get("pre_auth_code")
	if err := d.CheckPreAuthCode(ctx, asked.Component.AppID, asked.PreAuthCode); err != nil {
		return asked, err
	}
	official := []Kind{ServiceAccount, SubscriptionAccount}
	switch q.Get("auth_type") {
	case "1":
		asked.Kinds = official
	case "2":
		asked.Kinds = []Kind{MiniProgram}
	// Assumed(consent.kinds): the platform does not document how the values 4, 5 and 8 of auth_type differ; on this server each of
	// these values offers all kinds of accounts.
	case "", "3", "4", "5", "6", "8":
		asked.Kinds = append(official, MiniProgram)
	default:
		return asked, BadRequest{catalog.Text("request.auth_type")}
	}
	asked.Only = q.Get("biz_appid")
	asked.Sets, ok = setsAsked(q.Get("category_id_list"))
	if !ok {
		return asked, BadRequest{catalog.Text("request.category_id_list")}
	}
	return asked, nil
}

// setsAsked parses the permission sets that a component requests.
func setsAsked(list string) (asked []int, ok bool) {
	if list == "" {
		return AskedByDefault, true
	}
	for id := range strings.SplitSeq(list, "|") {
		n, err := strconv.Atoi(id)
		if err != nil || ValidSets([]int{n}) != nil {
			return nil, false
		}
		asked = append(asked, n)
	}
	return ordered(asked), true
}

// backTo parses a return URL. A valid return URL has the scheme http or https, and its host with the port is one of the component's hosts.
// A URL that two programs could parse differently is rejected.
func backTo(hosts []string, address string) (*url.URL, bool) {
	odd := func(r rune) bool { return r <= ' ' || r == '\\' || r >= 0x7f }
	if len(address) > 2048 || strings.ContainsFunc(address, odd) {
		return nil, false
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || strings.Contains(u.Host, "@") {
		return nil, false
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	for _, h := range hosts {
		if host != "" && strings.ToLower(h) == host {
			u.Host = host
			return u, true
		}
	}
	return nil, false
}

// Suits reports whether the request may be granted for account a.
func (r Request) Suits(a Account) bool {
	return slices.Contains(r.Kinds, a.Kind) && (r.Only == "" || r.Only == a.AppID)
}

// Origin returns scheme and host of the return URL.
func (r Request) Origin() string { return r.Back.Scheme + "://" + r.Back.Host }

// Return adds the authorization_code to the return URL and keeps other query parameters; after agreeing, a user is redirected to this URL.
func (r Request) Return(code Issued) string {
	to := *r.Back
	added := url.Values{"auth_code": {code.Text}, "expires_in": {strconv.Itoa(code.ExpiresIn)}}.Encode()
	if q := to.Query(); q.Has("auth_code") || q.Has("expires_in") {
		q.Del("auth_code")
		q.Del("expires_in")
		to.RawQuery = q.Encode()
	}
	if to.RawQuery != "" {
		added = to.RawQuery + "&" + added
	}
	to.RawQuery, to.ForceQuery = added, false
	to.Path = cmp.Or(to.Path, "/")
	return to.String()
}

// Candidates returns at most limit accounts from which the user may choose, sorted by AppID; hasMore reports further matches. Each returned
// account suits the request, has part in its AppID or name, and is visible to the user (sees returns true).
func (d *Service) Candidates(ctx context.Context, r Request, part string, limit int, sees func(appid string) bool) (list []Account,
	hasMore bool, err error) {
	part = strings.ToLower(part)
	for cursor := ""; ; {
		page, err := d.List(ctx, cursor, ListLimit)
		if err != nil || len(page) == 0 {
			return list, false, err
		}
		for _, a := range page {
			cursor = a.AppID
			if !r.Suits(a) || !sees(a.AppID) || !strings.Contains(strings.ToLower(a.AppID+"\n"+a.Name), part) {
				continue
			}
			if len(list) == limit {
				return list, true, nil
			}
			list = append(list, a)
		}
	}
}

// referencePlace is the encryption context of the references that SealRequest returns.
const referencePlace = "consent/reference"

// maxQuery is the maximum length in bytes of a query that SealRequest encrypts.
const maxQuery = 4096

// SealRequest encrypts the query of a link into a reference, which another listener of this server can open. The reference contains the
// pre_auth_code and works only once, like the pre_auth_code. SealRequest returns "" if the query is too long.
func (d *Service) SealRequest(q url.Values) string {
	kept := url.Values{}
	for _, name := range []string{"component_appid", "pre_auth_code", "redirect_uri", "auth_type", "biz_appid", "category_id_list"} {
		if q.Has(name) {
			kept.Set(name, q.Get(name))
		}
	}
	text := kept.Encode()
	if len(text) > maxQuery {
		return ""
	}
	return d.Key.Seal(referencePlace, []byte(text))
}

// OpenRequest reads the request from a reference or from a complete link to the authorisation page. OpenRequest returns the errors
// BadRequest and Invalid.
func (d *Service) OpenRequest(ctx context.Context, text string) (Request, error) {
	_, query, link := strings.Cut(text, "?")
	if !link {
		raw, err := d.Key.Open(referencePlace, text)
		if err != nil {
			return Request{}, BadRequest{catalog.Text("request.reference")}
		}
		query = string(raw)
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return Request{}, BadRequest{catalog.Text("request.reference")}
	}
	return d.ReadRequest(ctx, q)
}
