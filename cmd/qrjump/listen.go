package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/qrjump/qrjump/client"
)

type listenCommand struct {
	operator
	webhookChanges
	ForwardTo      string `required:"" placeholder:"URL"`
	Listen         string `default:"127.0.0.1:0" placeholder:"ADDR"`
	Secret         string `env:"QRJUMP_WEBHOOK_SECRET" placeholder:"SECRET"`
	Component      string `placeholder:"APPID"`
	MessageToken   string `env:"QRJUMP_MESSAGE_TOKEN" placeholder:"TOKEN"`
	EncodingAESKey string `name:"encoding-aes-key" env:"QRJUMP_ENCODING_AES_KEY" placeholder:"KEY"`
}

// maxSubscriptions is the maximum number of rules, and the maximum number of batches, to which listen subscribes one webhook.
const maxSubscriptions = 1000

// maxForwardedSize is the maximum size in bytes of a message, and the maximum size of the receiver's response.
const maxForwardedSize = 1 << 20

// Run creates a webhook that sends to this process, forwards the messages until a signal arrives, and then deletes the webhook.
func (c *listenCommand) Run(s *session, qrjump *client.Client) error {
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
	if err := c.apply(&want); err != nil {
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
	// The HTTP server starts before the webhook exists; received messages wait until the line "qrjump ready" is printed.
	server := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer server.Close()

	// A closed terminal and closed output end the command, so that the webhook is deleted. Under nohup, the hangup stays ignored.
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	f.stop = stop
	if !signal.Ignored(syscall.SIGHUP) {
		ctx, _ = signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // A write to a closed pipe returns an error instead of ending the program.

	added, err := qrjump.Webhooks.Create(s.ctx, want)
	if err != nil {
		return failed(tr("webhook.add_webhook"), want.URL, err)
	}
	f.secret = added.Secret
	putBack, err := c.pushesTo(s.ctx, qrjump, current+"/push")
	if err == nil && c.printReady(s, current, want, added.Secret) != nil {
		stop()
	}
	close(f.begun)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-served:
		}
		err = errors.Join(err, putBack(context.WithoutCancel(s.ctx)))
	}
	// The webhook is deleted even if a signal interrupts the program.
	if _, gone := qrjump.Webhooks.Delete(context.WithoutCancel(s.ctx), added.Webhook.ID); gone != nil && !isNotFound(gone) {
		err = errors.Join(err, hintError{error: fault("listen.webhook_not_deleted", added.Webhook.ID, gone),
			next: fmt.Sprintf("qrjump webhook delete %d --yes", added.Webhook.ID)})
	}
	return err
}

func (c *listenCommand) printReady(s *session, current string, want client.WebhookPut, secret string) error {
	_, err := fmt.Fprintln(s.out, "qrjump ready "+current)
	alarms := textOr(want.Alarms, tr("listen.alarms"), tr("listen.no_alarms"))
	printMsg(s.err, "listen.ready", counted(len(want.Codes), "batch"), counted(len(want.Rules), "told_rule"), alarms, plain(c.ForwardTo))
	if c.Secret == "" {
		printMsg(s.err, "listen.signed", plain(secret))
	}
	if c.Component != "" {
		printMsg(s.err, "listen.pushes", plain(c.Component))
	}
	return err
}

// subscribeAll subscribes the webhook to all events if the flags select no events.
func (c *listenCommand) subscribeAll(ctx context.Context, qrjump *client.Client, w *client.WebhookPut) error {
	if len(w.Codes)+len(w.Rules) > 0 || c.Alarms != nil {
		return nil
	}
	w.Alarms = true
	rules, err := qrjump.Rules.ListPage(ctx, client.StoredRuleQuery{Limit: maxSubscriptions, Newest: true})
	if err != nil {
		return err
	}
	w.Rules = mapped(rules.Rules, func(rule client.StoredRule) int64 { return rule.ID })
	const page = 100
	batches, err := everyPage(page, func(lastBatch client.Batch) ([]client.Batch, error) {
		return qrjump.Batches.List(ctx, client.BatchQuery{After: lastBatch.ID, Limit: page})
	})
	for _, batch := range batches[max(0, len(batches)-maxSubscriptions):] {
		w.Codes = append(w.Codes, client.WebhookCodes{ApplicationID: batch.ID})
	}
	return err
}

// pushesTo directs a platform's pushes to an address, and returns a function that restores the previous address.
func (c *listenCommand) pushesTo(ctx context.Context, qrjump *client.Client, address string) (func(context.Context) error, error) {
	if c.Component == "" {
		return func(context.Context) error { return nil }, nil
	}
	old, err := qrjump.Components.Get(ctx, c.Component)
	if err == nil {
		_, err = qrjump.Components.Set(client.IfMatch(ctx, old.Revision), c.Component, client.ComponentPut{EventURL: &address})
	}
	if err != nil {
		return nil, failed(tr("component.save"), c.Component, describeConflict("qrjump component show "+c.Component, err))
	}
	return func(ctx context.Context) error {
		currentComponent, err := qrjump.Components.Get(ctx, c.Component)
		// If the event URL differs from the address that listen set, another user has changed the event URL in the meantime.
		if err == nil && currentComponent.EventURL == address {
			_, err = qrjump.Components.Set(client.IfMatch(ctx, currentComponent.Revision), c.Component,
				client.ComponentPut{EventURL: &old.EventURL})
		}
		if err == nil {
			return nil
		}
		return hintError{error: fault("listen.pushes_left", plain(c.Component), err),
			next: "qrjump " + shellWords("component", "set", c.Component, "--event-url", old.EventURL)}
	}, nil
}

// forwarder verifies received messages, forwards them and prints the responses.
type forwarder struct {
	s        *session
	asJSON   bool
	to       *url.URL
	resign   string        // The secret that signs forwarded webhooks; "" keeps the original signature.
	envelope *envelope     // decrypts the pushes to a third-party platform; nil = no pushes are received.
	begun    chan struct{} // begun is closed as soon as secret is set and the line "qrjump ready" is printed.
	secret   string
	stop     func() // ends the command
	http     *http.Client
	printing sync.Mutex
}

// forwarded is the printed record of a message and its result.
type forwarded struct {
	OccurredAt time.Time `json:"occurred_at"`
	Kind       string    `json:"kind"`
	ID         string    `json:"id,omitempty"`
	Signature  bool      `json:"signature"`
	Message    string    `json:"message"`
	Status     int       `json:"status,omitempty"` // Status is 0 if the message was not forwarded or the receiver did not respond.
	Response   string    `json:"response,omitempty"`
	Error      string    `json:"error,omitempty"`
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	push := r.URL.Path == "/push" && f.envelope != nil
	if r.Method != http.MethodPost || !push && r.URL.Path != "/webhook" {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForwardedSize))
	if err != nil {
		return // The sender has received an error about the size, or has disconnected.
	}
	<-f.begun
	m := forwarded{OccurredAt: time.Now()}
	if push {
		m.Kind, m.Message, m.Signature = f.envelope.open(r.URL.Query(), body)
	} else {
		var head struct{ Type string }
		_ = json.Unmarshal(body, &head) // The type stays "" if the sender is not a qrjump server.
		m.Kind, m.ID, m.Message = head.Type, r.Header.Get("Webhook-Id"), string(body)
		m.Signature = isValidSignature(r.Header, body, f.secret)
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
	_, _ = w.Write(text) // The server retries if it does not receive this response.
}

// forward sends a message to the receiver and returns the response; only the signature may be replaced (--secret).
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
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxForwardedSize))
	return answer.StatusCode, text, err
}

// print prints a message and its result as one JSON line, or as several lines of text. After a write error, which the function run reports,
// print ends the command.
func (f *forwarder) print(m forwarded) {
	f.printing.Lock()
	defer f.printing.Unlock()
	if f.asJSON {
		if json.NewEncoder(f.s.out).Encode(m) != nil {
			f.stop()
		}
		return
	}
	signature := textOr(!m.Signature, "listen.signature_invalid", "listen.signature_valid")
	printMsg(f.s.out, "listen.event", formatTime(m.OccurredAt), orDash(plain(m.Kind)), orDash(plain(m.ID)), tr(signature))
	if _, err := fmt.Fprintln(f.s.out, "  "+plain(m.Message)); err != nil {
		f.stop()
	}
	switch {
	case m.Error != "":
		printMsg(f.s.out, "listen.no_answer", plain(f.to.Redacted()), plain(m.Error))
	case m.Signature:
		printMsg(f.s.out, "listen.answered", m.Status, orDash(plain(m.Response)))
	}
}

// isValidSignature reports whether a message of a webhook was signed with the secret (Standard Webhooks 1.0). The timestamp is ignored,
// because the server's clock may have been moved for a test.
func isValidSignature(header http.Header, body []byte, secret string) bool {
	want, ok := webhookSignature(header, body, secret)
	return ok && slices.ContainsFunc(strings.Fields(header.Get("Webhook-Signature")),
		func(name string) bool { return hmac.Equal([]byte(name), []byte(want)) })
}

// webhookSignature returns the signature of a message with a secret; ok is false if the secret is not a valid webhook secret.
func webhookSignature(header http.Header, body []byte, secret string) (signature string, ok bool) {
	text, prefixed := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !prefixed || err != nil || len(key) == 0 {
		return "", false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(header.Get("Webhook-Id") + "." + header.Get("Webhook-Timestamp") + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), true
}

// envelope decrypts the messages that are pushed to a platform. Contract: rules §3.2.
type envelope struct {
	appid, token string
	key          []byte
}

// newEnvelope returns the envelope of a platform, or nil if appid is "".
func newEnvelope(appid, token, aesKey string) (*envelope, error) {
	if appid == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(aesKey + "=")
	if token == "" || err != nil || len(key) != 32 {
		return nil, misused("listen.keys", plain(appid))
	}
	return &envelope{appid, token, key}, nil
}

// open verifies that a push has a valid signature and is addressed to this platform, and returns the push's type and decrypted message.
func (e *envelope) open(query url.Values, body []byte) (kind, message string, right bool) {
	var outer struct{ Encrypt string }
	if xml.Unmarshal(body, &outer) != nil {
		return "", string(body), false
	}
	parts := []string{e.token, query.Get("timestamp"), query.Get("nonce"), outer.Encrypt}
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	text, err := base64.StdEncoding.DecodeString(outer.Encrypt)
	if err != nil || len(text) == 0 || len(text)%aes.BlockSize != 0 ||
		!hmac.Equal([]byte(query.Get("msg_signature")), []byte(hex.EncodeToString(sum[:]))) {
		return "", string(body), false
	}
	block, err := aes.NewCipher(e.key)
	if err != nil {
		return "", string(body), false
	}
	cipher.NewCBCDecrypter(block, e.key[:aes.BlockSize]).CryptBlocks(text, text)
	// The plain text consists of 16 random bytes, the length, the message, the AppID, and padding; the last byte is the length of
	// the padding.
	const before = 16 + 4
	end := len(text) - int(text[len(text)-1])
	if end < before {
		return "", string(body), false
	}
	length := binary.BigEndian.Uint32(text[16:before])
	if uint64(length) > uint64(end-before) || string(text[before+int(length):end]) != e.appid {
		return "", string(body), false
	}
	inner := text[before : before+int(length)]
	var entry struct{ InfoType, Event, MsgType string }
	_ = xml.Unmarshal(inner, &entry) // A message without a type is printed with the type "".
	return cmp.Or(entry.InfoType, entry.Event, entry.MsgType), string(inner), true
}
