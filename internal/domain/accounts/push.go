package accounts

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// The types of messages to a component. Contract: rules §3.2.
const (
	TicketPush       = "component_verify_ticket"
	AuthorizedPush   = "authorized"
	UpdatedPush      = "updateauthorized"
	UnauthorizedPush = "unauthorized"
)

// keptPushes is the number of finished pushes per component that are stored for inspection.
const keptPushes = 200

func pushPlace(id int64) string { return "pushes/" + strconv.FormatInt(id, 10) }

// element is one XML element of a message.
type element struct {
	name, text string
	secret     bool
}

// message returns a push message as XML; hide = true masks its secret elements.
func message(elements []element, hide bool) string {
	var b strings.Builder
	b.WriteString("<xml>")
	for _, e := range elements {
		text := cdata(e.text)
		if e.secret && hide {
			text = cdata("[masked]")
		} else if e.name == "CreateTime" || strings.HasSuffix(e.name, "ExpiredTime") {
			text = e.text
		}
		b.WriteString("<" + e.name + ">" + text + "</" + e.name + ">")
	}
	b.WriteString("</xml>")
	return b.String()
}

// header returns the elements that every message to a component starts with.
func header(r outbox.Row) []element {
	return []element{{name: "AppId", text: r.Receiver}, {name: "CreateTime", text: strconv.FormatInt(r.CreatedAt.Unix(), 10)},
		{name: "InfoType", text: r.Event}}
}

// addPush queues a push message. Contract: clients: the server lengthens the message so that its padding has at most 16 bytes, which every
// receiver can read.
func (d *Service) addPush(ctx context.Context, tx Tx, r outbox.Row, elements []element) (err error) {
	elements = append(header(r), elements...)
	text := message(elements, false)
	if spare := (Envelope{AppID: r.Receiver}).spare(len(text)); spare > 0 {
		// The message is lengthened by line feeds, because white space between XML elements has no meaning.
		text = strings.TrimSuffix(text, "</xml>") + strings.Repeat("\n", spare) + "</xml>"
	}
	if r.ID, err = tx.NewRowID(ctx, outbox.Pushes); err != nil {
		return err
	}
	r.NextAt, r.Body, r.Shown = r.CreatedAt, d.Key.Seal(pushPlace(r.ID), []byte(text)), message(elements, true)
	if err := tx.AddRows(ctx, outbox.Pushes, []outbox.Row{r}); err != nil {
		return err
	}
	return tx.ForgetPushes(ctx, r.Receiver, keptPushes)
}

// Pushes lists the sent and pending pushes of a component, newest first. ErrNoComponent.
func (d *Service) Pushes(ctx context.Context, component string, limit int) ([]outbox.Row, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]outbox.Row, error) {
		if _, err := tx.ComponentWithoutGrants(ctx, component); err != nil {
			return nil, err
		}
		return tx.Rows(ctx, outbox.Pushes, outbox.Query{Receiver: component, Limit: limit})
	})
}

// push runs f in a transaction that may queue pushes, and wakes the sender of pushes after the commit.
func (d *Service) push(ctx context.Context, f func(Tx) error) error {
	err := d.Store.UpdateAccounts(ctx, f)
	if err == nil && d.Wake != nil {
		d.Wake()
	}
	return err
}

// PushPolicy returns the delivery policy for messages to components. A message is encrypted when it is sent, not when it is queued.
func (d *Service) PushPolicy() outbox.Policy {
	return outbox.Policy{Kind: outbox.Pushes, Batch: 1, Lease: sendLease, NextAttempt: backOff(13),
		Before: func(ctx context.Context) (bool, error) { return false, d.PushTickets(ctx) },
		Open:   d.openEventURL,
		// Contract: rules §3.2: a message is delivered if the response body is the word success.
		Refusal: func(r *outbox.Row, a safehttp.Answer, err error) string {
			r.Response = keptAnswer(a.Body)
			switch {
			case err != nil:
				return err.Error()
			case a.Status != http.StatusOK:
				return "the response status is not 200"
			case strings.TrimSpace(string(a.Body)) != "success":
				return "the response body is not the text success"
			}
			return ""
		},
	}
}

func (d *Service) openEventURL(ctx context.Context, component string) (func(*outbox.Row) (safehttp.Request, error), error) {
	c, err := Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (Component, error) { return tx.ComponentWithoutGrants(ctx, component) })
	if err != nil {
		return nil, err
	}
	token, err := d.Key.Open("components/message_token/"+component, c.MessageToken)
	if err != nil {
		return nil, err
	}
	key, err := d.Key.Open("components/encoding_aes_key/"+component, c.EncodingAESKey)
	if err != nil {
		return nil, err
	}
	return func(r *outbox.Row) (safehttp.Request, error) {
		text, err := d.Key.Open(pushPlace(r.ID), r.Body)
		switch {
		case c.EventURL == "":
			return safehttp.Request{}, outbox.ErrSkip("the platform no longer has an event URL")
		case err != nil:
			return safehttp.Request{}, outbox.ErrSkip("it can no longer be decrypted")
		}
		sealed, err := Envelope{AppID: component, Token: string(token), AESKey: string(key)}.Seal(d.Random, d.realNow(), text)
		r.URL = c.EventURL
		request := postXML(c.EventURL, sealed.Query, sealed.Body)
		request.MaxBody = 4 << 10
		return request, err
	}, nil
}

// sendLease is the time for which one node has the exclusive right to send a row.
const sendLease = time.Minute

// backOff returns a function that computes the time of the next attempt, for at most limit attempts. MessagePolicy and PushPolicy use the
// same pauses. For verify tickets the long pauses never occur, because a new ticket replaces an undelivered ticket after about ten minutes.
func backOff(limit int) func(r outbox.Row, began, ended time.Time) time.Time {
	return func(r outbox.Row, began, _ time.Time) time.Time {
		if r.Attempts >= limit {
			return time.Time{}
		}
		return began.Add([]time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
			15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour}[r.Attempts-1])
	}
}

// postXML returns the HTTP request that sends a message; the receiver has five seconds to respond.
func postXML(address string, query url.Values, body []byte) safehttp.Request {
	address, _, _ = strings.Cut(address, "#")
	mark := "?"
	if strings.Contains(address, "?") {
		mark = "&"
	}
	return safehttp.Request{Method: http.MethodPost, URL: address + mark + query.Encode(), Body: body,
		Header: http.Header{"Content-Type": {"text/xml"}, "User-Agent": {"Mozilla/4.0"}}, Timeout: 5 * time.Second} // the platform's own
}

// marks lists the prefixes of the secret texts that keptAnswer masks: tickets, codes and refresh tokens.
var marks = []string{"ticket@@@", preAuthMark, authMark, refreshMark}

// keptAnswer returns the part of a response that is stored: printable, of limited length, and without secrets that the receiver echoed.
func keptAnswer(answer []byte) string {
	const maxAnswer = 512
	text := strings.ToValidUTF8(strings.ReplaceAll(string(answer[:min(len(answer), maxAnswer)]), "\x00", ""), "")
	for _, mark := range marks {
		if i := strings.Index(text, mark); i >= 0 {
			text = text[:i] + "[masked]"
		}
	}
	return text
}
