// Package client calls the three APIs of a qrjump server: the wire API (the Weixin calls for jump rules and codes), the scan API
// and the admin API. The wire API calls also work with the real platform.
//
// A program creates a Client once; a Client is safe for concurrent use by multiple goroutines. Every call ends within Options.Timeout and
// reads a response of limited size; redirects are not followed, so a credential is sent only to the host of the base URL.
//
// Each failure has a type: *WireError for an errcode of the wire API, *Problem for an error response of the scan API or the admin
// API, *Unreachable if no response arrived, *WrongServer if the response does not come from the called API.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Platform is the base URL of the real platform's wire API.
const Platform = "https://api.weixin.qq.com"

// Options holds the credentials of a client, the addresses of the APIs and the timeout of calls. The zero value is for a
// development server (qrjump serve --dev), whose scan API and admin API need no credentials.
type Options struct {
	AppID  string // AppID of the account that makes the wire API calls.
	Secret string // AppSecret of the account; with AppID and Secret, the client fetches and renews the access token itself.

	AccessToken string // A token that another program renews, as an alternative to AppID and Secret.
	AdminToken  string
	ScanKey     string

	// AdminURL and ScanURL are the addresses of the admin API and the scan API, if they have separate listeners; "" means the base URL.
	AdminURL, ScanURL string

	Timeout     time.Duration // Timeout of one call; 0 means 15 s.
	RateRetries int           // Number of retries of a rate-limited wire API call, one second apart.
	HTTP        *http.Client  // HTTP provides the transport for all calls; nil means a default transport.

	// InProcess means that the transport passes calls to a server in the same program, so responses are not checked for missing fields.
	InProcess bool
}

// Client calls one server. The calls of a Client are grouped by resource.
type Client struct {
	*transport

	Wire          WireService
	Accounts      AccountsService
	Links         LinksService
	Rules         RulesService
	Verifications VerificationsService
	Domains       DomainsService
	Batches       BatchesService
	Codes         CodesService
	Orders        OrdersService
	Packages      PackagesService
	Components    ComponentsService
	Consents      ConsentsService
	Emulator      EmulatorService
	Settings      SettingsService
	ScanKeys      ScanKeysService
	AdminKeys     AdminKeysService
	People        PeopleService
	Scans         ScansService
	ScanNodes     ScanNodesService
	Statistics    StatisticsService
	Charts        ChartsService
	Alarms        AlarmsService
	Calls         CallsService
	Deviations    DeviationsService
	Behaviours    BehavioursService
	AuditLog      AuditLogService
	GS1           GS1Service
	Webhooks      WebhooksService
	Archive       ArchiveService
	Lake          LakeService
}

// transport sends the calls of all services of a client.
type transport struct {
	base    string            // Base URL without a trailing slash.
	bases   map[string]string // Base URLs of the APIs that have a separate listener.
	options Options
	http    *http.Client

	mu    sync.Mutex // mu is held while a token is fetched, so that concurrent calls share one fetch.
	token string
}

// The maximum sizes of responses, in bytes.
const (
	maxAnswer = 4 << 20
	maxList   = 64 << 20 // A list of 10,000 rules with all their test links fits in this limit.
)

// New returns a client of the server at a base URL such as "http://127.0.0.1:8080" or Platform. New does not open a connection.
func New(baseURL string, o Options) (*Client, error) {
	bases := map[string]string{}
	for _, given := range []struct{ name, api, url string }{
		{"server", apiWire, baseURL}, {"admin-server", apiAdmin, o.AdminURL}, {"scan-server", apiScan, o.ScanURL}} {
		if given.url == "" && given.api != apiWire {
			continue
		}
		u, err := url.Parse(given.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
			u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("%s %q: want an address such as http://127.0.0.1:8080", given.name, given.url)
		}
		bases[given.api] = strings.TrimRight(given.url, "/")
	}
	o.Timeout = cmp.Or(o.Timeout, 15*time.Second)
	var h http.Client
	if o.HTTP != nil {
		h = *o.HTTP
	}
	// A redirect would send the token, which is part of the query, to another host.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t := &transport{base: bases[apiWire], bases: bases, options: o, http: &h}
	return &Client{transport: t,
		Wire: WireService{t}, Accounts: AccountsService{t}, Links: LinksService{t}, Rules: RulesService{t},
		Verifications: VerificationsService{t}, Domains: DomainsService{t}, Batches: BatchesService{t},
		Codes: CodesService{t}, Orders: OrdersService{t}, Packages: PackagesService{t},
		Components: ComponentsService{t}, Consents: ConsentsService{t}, Emulator: EmulatorService{t},
		Settings: SettingsService{t}, ScanKeys: ScanKeysService{t}, AdminKeys: AdminKeysService{t},
		People: PeopleService{t}, Scans: ScansService{t}, ScanNodes: ScanNodesService{t},
		Statistics: StatisticsService{t}, Charts: ChartsService{t}, Alarms: AlarmsService{t},
		Calls: CallsService{t}, Deviations: DeviationsService{t}, Behaviours: BehavioursService{t},
		AuditLog: AuditLogService{t}, GS1: GS1Service{t}, Webhooks: WebhooksService{t}, Archive: ArchiveService{t},
		Lake: LakeService{t}}, nil
}

// baseOf returns the base URL of the API that a path belongs to.
func (c *transport) baseOf(path string) string { return cmp.Or(c.bases[apiOf(path)], c.base) }

// URL returns the base URL of the server, without a trailing slash.
func (c *Client) URL() string { return c.base }

// Unreachable is the error for a server that did not respond.
type Unreachable struct {
	URL string // Base URL of the server.
	Err error
}

func (u *Unreachable) Error() string { return fmt.Sprintf("no response from %s: %v", u.URL, u.Err) }

// Unwrap returns the network error.
func (u *Unreachable) Unwrap() error { return u.Err }

// request is one call; empty fields are not sent.
type request struct {
	method, path string
	query        url.Values
	bearer       string
	contentType  string
	body         io.Reader
	accept       string
	passphrase   string
}

// open sends a request and returns the response with an unread body.
func (c *transport) open(ctx context.Context, r request) (*http.Response, error) {
	address := c.baseOf(r.path) + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, r.body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, withoutAddress(err))
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.passphrase != "" {
		req.Header.Set("Archive-Passphrase", r.passphrase)
	}
	if r.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	matching(ctx, req)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &Unreachable{URL: c.baseOf(r.path), Err: withoutAddress(err)}
	}
	return resp, nil
}

// withoutAddress removes the URL from an error, because the URL contains the token.
func withoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// answer is a complete response.
type answer struct {
	status int
	body   []byte
}

// send makes a call and reads at most limit bytes of the response.
func (c *transport) send(ctx context.Context, r request, limit int64) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	resp, err := c.open(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body := bytes.NewBuffer(make([]byte, 0, min(max(resp.ContentLength, 0), limit)+bytes.MinRead))
	if _, err := body.ReadFrom(io.LimitReader(resp.Body, limit+1)); err != nil {
		return answer{}, &Unreachable{URL: c.baseOf(r.path), Err: fmt.Errorf("the response ended early: %w", withoutAddress(err))}
	}
	if int64(body.Len()) > limit {
		return answer{}, fmt.Errorf("%s %s: the response is longer than %d bytes", r.method, r.path, limit)
	}
	return answer{resp.StatusCode, body.Bytes()}, nil
}

// encode writes JSON without escaping & < >.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// excerpt returns the beginning of a response, for quotation in an error.
func excerpt(body []byte) string {
	const most = 200
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "\ufffd")), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
