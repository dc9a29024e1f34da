// Package client calls the three APIs of a qrjump server: the wire (the
// Weixin calls for jump rules and codes), the scan API and the admin API. The
// wire calls work against the real platform as well.
//
// A Client is made once and is safe for use by many goroutines. Every call
// ends within Options.Timeout and reads a bounded answer; redirects are not
// followed, so a credential goes to the host of the base URL and nowhere else.
//
// Each failure has a type: *WireError for an errcode of the wire,
// *Problem for a refusal of the scan and admin APIs, *Unreachable when no
// answer came, *WrongServer when what answered is not the API that was called.
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

// Platform is the base URL of the real platform's wire.
const Platform = "https://api.weixin.qq.com"

// Options say who calls, and how long a call may take. The zero value calls a development server
// (qrjump serve --dev) whose scan and admin APIs are open.
type Options struct {
	AppID  string // of the account that makes the wire calls
	Secret string // its AppSecret; with AppID the client fetches and renews the token itself

	AccessToken string // in place of AppID and Secret: a token that another program renews
	AdminToken  string
	ScanKey     string

	// Where the admin and the scan API are, if they have listeners of their own;
	// "" = at the base URL.
	AdminURL, ScanURL string

	Timeout     time.Duration // of one call; 0 = 15 s
	RateRetries int           // how often a wire call that was refused as too frequent is tried again, a second later
	HTTP        *http.Client  // its transport is used; nil = one of our own

	// Inside says that the transport hands calls to a server in the same program: its answers are not checked for missing
	// fields.
	Inside bool
}

// Client calls one server. Its calls are grouped by resource.
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
	base    string            // without a final slash
	bases   map[string]string // of the APIs that have a base URL of their own
	options Options
	http    *http.Client

	mu    sync.Mutex // held while a token is fetched, so that one fetch serves all
	token string
}

// The bounds of answers, in bytes.
const (
	maxAnswer = 4 << 20
	maxList   = 64 << 20 // 10,000 rules with all their test links
)

// New returns a client of the server at a base URL such as
// "http://127.0.0.1:8080" or Platform. It makes no connection.
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
	// A redirect would carry the token, which is in the query, to another host.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return newClient(&transport{base: bases[apiWire], bases: bases, options: o, http: &h}), nil
}

func newClient(t *transport) *Client {
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
		Lake: LakeService{t}}
}

// baseOf returns the base URL of the API that a path belongs to.
func (c *transport) baseOf(path string) string { return cmp.Or(c.bases[apiOf(path)], c.base) }

// URL returns the base URL of the server, without a final slash.
func (c *Client) URL() string { return c.base }

// Unreachable says that a server gave no answer.
type Unreachable struct {
	URL string // base URL of the server
	Err error
}

func (u *Unreachable) Error() string { return fmt.Sprintf("no answer from %s: %v", u.URL, u.Err) }

// Unwrap returns what the network said.
func (u *Unreachable) Unwrap() error { return u.Err }

// request is one call; what is empty is not sent.
type request struct {
	method, path string
	query        url.Values
	bearer       string
	contentType  string
	body         io.Reader
	accept       string
}

// open sends a request and returns the answer with its body unread.
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

// withoutAddress drops the address from an error, because it carries the token.
func withoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send makes a call and reads at most limit bytes of the answer.
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
		return answer{}, &Unreachable{URL: c.baseOf(r.path), Err: fmt.Errorf("the answer broke off: %w", withoutAddress(err))}
	}
	if int64(body.Len()) > limit {
		return answer{}, fmt.Errorf("%s %s: the answer is longer than %d bytes", r.method, r.path, limit)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body.Bytes()}, nil
}

// encode writes JSON without escaping & < >.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// excerpt returns the beginning of an answer, for an error that quotes it.
func excerpt(body []byte) string {
	const most = 200
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "\ufffd")), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
