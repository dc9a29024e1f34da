package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/client"
)

type listenCommand struct {
	operator
	webhookWishes
	ForwardTo      string `required:"" placeholder:"URL"`
	Listen         string `default:"127.0.0.1:0" placeholder:"ADDR"`
	Secret         string `env:"QRJUMP_WEBHOOK_SECRET" placeholder:"SECRET"`
	Component      string `placeholder:"APPID"`
	MessageToken   string `env:"QRJUMP_MESSAGE_TOKEN" placeholder:"TOKEN"`
	EncodingAESKey string `name:"encoding-aes-key" env:"QRJUMP_ENCODING_AES_KEY" placeholder:"KEY"`
}

// mostTold is of how many rules and applications one webhook can be told.
const mostTold = 1000

// mostForwarded bounds a message, and what its receiver answers.
const mostForwarded = 1 << 20

// Run returns a receiver for as long as it runs: it adds a webhook that sends here, and takes it away at its end.
func (c *listenCommand) Run(s *session) error {
	to, err := url.Parse(c.ForwardTo)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "" || to.User != nil {
		return misused("listen.target", plain(c.ForwardTo))
	}
	if _, ok := webhookSignature(nil, nil, c.Secret); c.Secret != "" && !ok {
		return misused("listen.secret")
	}
	envelope, err := newEnvelope(c.Component, c.MessageToken, c.EncodingAESKey)
	if err != nil {
		return err
	}
	want := client.WebhookPut{}
	if err := c.on(&want); err != nil {
		return err
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	if err := c.subscribeAll(s.ctx, qrjump, &want); err != nil {
		return fault("listen.all", err)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fault("listen.listen", err)
	}
	defer listener.Close()
	current := "http://" + listener.Addr().String()
	want.URL = current + "/webhook"
	f := &forwarder{s: s, asJSON: c.isJSON(), to: to, resign: c.Secret, envelope: envelope, begun: make(chan struct{}), http: &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	// It answers before the server knows of it: what comes first waits until its secret is known.
	server := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer server.Close()

	added, err := qrjump.Webhooks.Create(s.ctx, want)
	if err != nil {
		return failed(said("webhook.add_webhook"), want.URL, err)
	}
	f.secret = added.Secret
	close(f.begun)
	putBack, err := c.pushesTo(s.ctx, qrjump, current+"/push")
	if err == nil {
		c.sayReady(s, current, want, added.Secret)
		select {
		case <-s.ctx.Done():
		case err = <-served:
		}
		err = errors.Join(err, putBack(context.WithoutCancel(s.ctx)))
	}
	// What was begun is ended although the program was told to end.
	if _, gone := qrjump.Webhooks.Delete(context.WithoutCancel(s.ctx), added.Webhook.ID); gone != nil && !isNotFound(gone) {
		err = errors.Join(err, hintError{error: fault("listen.left", added.Webhook.ID, gone),
			next: fmt.Sprintf("qrjump webhook delete %d --yes", added.Webhook.ID)})
	}
	return err
}

func (c *listenCommand) sayReady(s *session, current string, want client.WebhookPut, secret string) {
	fmt.Fprintln(s.out, "qrjump ready "+current)
	alarms := said("listen.no_alarms")
	if want.Alarms {
		alarms = said("listen.alarms")
	}
	tell(s.err, "listen.ready", counted(len(want.Codes), "batch"), counted(len(want.Rules), "told_rule"), alarms,
		plain(c.ForwardTo))
	if c.Secret == "" {
		tell(s.err, "listen.signed", plain(secret))
	}
	if c.Component != "" {
		tell(s.err, "listen.pushes", plain(c.Component))
	}
}

// subscribeAll subscribes a webhook without a choice to all events.
func (c *listenCommand) subscribeAll(ctx context.Context, qrjump *client.Client, w *client.WebhookPut) error {
	if len(w.Codes)+len(w.Rules) > 0 || c.Alarms != nil {
		return nil
	}
	w.Alarms = true
	rules, err := qrjump.Rules.ListPage(ctx, client.StoredRuleQuery{Limit: mostTold, Newest: true})
	if err != nil {
		return err
	}
	for _, rule := range rules.Rules {
		w.Rules = append(w.Rules, rule.ID)
	}
	const page = 100
	batches, err := everyPage(page, func(lastBatch client.Batch) ([]client.Batch, error) {
		return qrjump.Batches.List(ctx, client.BatchQuery{After: lastBatch.ID, Limit: page})
	})
	for _, batch := range batches[max(0, len(batches)-mostTold):] {
		w.Codes = append(w.Codes, client.WebhookCodes{ApplicationID: batch.ID})
	}
	return err
}

// pushesTo leads a platform's pushes to an address, and returns what leads them back.
func (c *listenCommand) pushesTo(ctx context.Context, qrjump *client.Client, address string) (func(context.Context) error, error) {
	if c.Component == "" {
		return func(context.Context) error { return nil }, nil
	}
	old, err := qrjump.Components.Get(ctx, c.Component)
	if err == nil {
		_, err = qrjump.Components.Set(client.IfMatch(ctx, old.Revision), c.Component, client.ComponentPut{EventURL: &address})
	}
	if err != nil {
		return nil, failed(said("component.put_component"), c.Component, unlessOvertaken("qrjump component show "+c.Component, err))
	}
	return func(ctx context.Context) error {
		currentComponent, err := qrjump.Components.Get(ctx, c.Component)
		if err == nil && currentComponent.EventURL == address { // else another address was chosen meanwhile
			_, err = qrjump.Components.Set(client.IfMatch(ctx, currentComponent.Revision), c.Component, client.ComponentPut{EventURL: &old.EventURL})
		}
		if err == nil {
			return nil
		}
		return hintError{error: fault("listen.pushes_left", plain(c.Component), err),
			next: "qrjump " + shellWords("component", "set", c.Component, "--event-url", old.EventURL)}
	}, nil
}

// forwarder checks what comes, hands it on and says what was answered.
type forwarder struct {
	s        *session
	asJSON   bool
	to       *url.URL
	resign   string        // secret that signs what is handed on; "" = it keeps its signature
	envelope *envelope     // nil = pushes are not led here
	begun    chan struct{} // closed when secret is there
	secret   string
	http     *http.Client
	printing sync.Mutex
}

// forwarded is a message and what became of it, as it is printed.
type forwarded struct {
	OccurredAt time.Time `json:"occurred_at"`
	Kind       string    `json:"kind"`
	ID         string    `json:"id,omitempty"`
	Signature  bool      `json:"signature"`
	Message    string    `json:"message"`
	Status     int       `json:"status,omitempty"` // 0 = it was not handed on, or not answered
	Response   string    `json:"response,omitempty"`
	Error      string    `json:"error,omitempty"`
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	push := r.URL.Path == "/push" && f.envelope != nil
	if r.Method != http.MethodPost || !push && r.URL.Path != "/webhook" {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostForwarded))
	if err != nil {
		return // its sender hears that it is too long, or is gone
	}
	<-f.begun
	m := forwarded{OccurredAt: time.Now()}
	if push {
		m.Kind, m.Message, m.Signature = f.envelope.open(r.URL.Query(), body)
	} else {
		var head struct{ Type string }
		_ = json.Unmarshal(body, &head) // "" = its sender is not the server
		m.Kind, m.ID, m.Message = head.Type, r.Header.Get("Webhook-Id"), string(body)
		m.Signature = rightlySigned(r.Header, body, f.secret)
	}
	status, text := http.StatusUnauthorized, []byte(nil)
	if m.Signature {
		status, text, err = f.forward(r, body)
		m.Status, m.Response = status, string(text)
		if err != nil {
			m.Error, status = err.Error(), http.StatusBadGateway
		}
	}
	f.print(m)
	w.WriteHeader(status)
	_, _ = w.Write(text) // the server tries again what it did not hear
}

// forward hands a message on as it came, and returns what was answered.
func (f *forwarder) forward(r *http.Request, body []byte) (int, []byte, error) {
	to := *f.to
	if r.URL.RawQuery != "" {
		to.RawQuery = strings.TrimPrefix(to.RawQuery+"&"+r.URL.RawQuery, "&")
	}
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Webhook-") || name == "Content-Type" || name == "User-Agent" {
			ask.Header[name] = values
		}
	}
	if f.resign != "" && r.URL.Path == "/webhook" {
		signature, _ := webhookSignature(r.Header, body, f.resign)
		ask.Header.Set("Webhook-Signature", signature)
	}
	answer, err := f.http.Do(ask)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostForwarded))
	return answer.StatusCode, text, err
}

// print says what came: one line of JSON, or a line, the message and what became of it.
func (f *forwarder) print(m forwarded) {
	f.printing.Lock()
	defer f.printing.Unlock()
	if f.asJSON {
		_ = json.NewEncoder(f.s.out).Encode(m) // run says that the output is not whole
		return
	}
	signature := "listen.right"
	if !m.Signature {
		signature = "listen.wrong"
	}
	tell(f.s.out, "listen.came", formatTime(m.OccurredAt), orDash(plain(m.Kind)), orDash(plain(m.ID)), said(signature))
	fmt.Fprintln(f.s.out, "  "+plain(m.Message))
	switch {
	case m.Error != "":
		tell(f.s.out, "listen.no_answer", plain(f.to.Redacted()), plain(m.Error))
	case m.Signature:
		tell(f.s.out, "listen.answered", m.Status, orDash(plain(m.Response)))
	}
}
