package accounts

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Pusher sends platforms what waits for them. It keeps nothing: what must be
// sent stands in the store, so that a restart, another node or a clock that
// was moved change nothing but when.
type Pusher struct {
	Directory *Directory
	// Send posts a body to a URL and returns status and answer.
	Send func(ctx context.Context, url string, body []byte) (status int, answer []byte, err error)
	// RealNow is the time in an envelope, which receivers compare with theirs.
	RealNow func() time.Time
	Log     *slog.Logger

	courier *courier
}

// pushLease is how long a push that is being sent belongs to one sender at least.
const pushLease = time.Minute

// maxAnswer is how much of an answer is kept, in bytes.
const maxAnswer = 512

// NewPusher returns a pusher for a directory, which wakes it.
func NewPusher(d *Directory, log *slog.Logger, realNow func() time.Time, send func(context.Context, string, []byte) (int, []byte, error)) *Pusher {
	p := &Pusher{Directory: d, Send: send, RealNow: realNow, Log: log, courier: newCourier()}
	d.Wake = p.courier.wake
	return p
}

// Run sends until ctx ends, and returns when nothing is on its way any more.
func (p *Pusher) Run(ctx context.Context, interval time.Duration) {
	p.courier.run(ctx, interval, p.round)
}

// round makes the tickets that are due and starts to send what waits.
func (p *Pusher) round(ctx context.Context) {
	if err := p.Directory.PushTickets(ctx); err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "verify tickets could not be made", "error", err)
	}
	var due []string
	err := p.Directory.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		due, err = tx.PushesDue(ctx, p.Directory.Now(), 1000)
		return err
	})
	if err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "pushes could not be read", "error", err)
	}
	for _, component := range due {
		p.courier.start(component, func() bool { return p.deliver(ctx, component) })
	}
}

// deliver sends a platform what is due, and reports whether something may have
// come meanwhile.
func (p *Pusher) deliver(ctx context.Context, component string) (more bool) {
	for sent := false; ; sent = true {
		push, sealed, ok, err := p.claim(ctx, component)
		if err != nil && ctx.Err() == nil {
			p.Log.ErrorContext(ctx, "a push could not be prepared", "component", component, "error", err)
		}
		if !ok || err != nil {
			return sent && err == nil
		}
		p.send(ctx, push, sealed)
	}
}

// claim takes the oldest push that is due and sets when it is tried again, so
// that neither a crash nor another node sends it twice at once.
func (p *Pusher) claim(ctx context.Context, component string) (push Push, sealed Sealed, ok bool, err error) {
	d := p.Directory
	err = d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		ok = false
		now := d.Now()
		due, err := tx.DuePushes(ctx, component, now, 1)
		if err != nil || len(due) == 0 {
			return err
		}
		push = due[0]
		c, err := tx.ComponentAlone(ctx, component)
		if err != nil {
			return err
		}
		text, err := d.openPush(push)
		if err != nil {
			// It would stand before all others for ever.
			p.Log.ErrorContext(ctx, "a push cannot be opened any more and is given up", "component", component, "error", err)
			was := push.NextAt
			push.NextAt, push.Sealed, push.Fault = time.Time{}, "", "it cannot be opened any more"
			_, err = tx.SavePush(ctx, push, was)
			return err
		}
		token, err := d.Key.Open("components/message_token/"+component, c.MessageToken)
		if err != nil {
			return err
		}
		key, err := d.Key.Open("components/encoding_aes_key/"+component, c.EncodingAESKey)
		if err != nil {
			return err
		}
		if sealed, err = (Envelope{AppID: component, Token: string(token), AESKey: string(key)}).Seal(d.Random, p.RealNow(), text); err != nil {
			return err
		}
		was := push.NextAt
		push.Attempts++
		push.SentAt, push.Status, push.Answer, push.Fault = now, 0, "", "not answered yet"
		push.URL = c.EventURL
		// Until it is known what became of it, it is this sender's: a receiver may
		// take as long to answer as the first pause is.
		pause, more := backOff(push.Attempts)
		if push.NextAt = now.Add(max(pause, pushLease)); !more || c.EventURL == "" {
			push.NextAt = time.Time{}
		}
		if c.EventURL == "" {
			push.Attempts, push.SentAt, push.Sealed, push.Fault = push.Attempts-1, time.Time{}, "", "the platform has no event URL any more"
			_, err = tx.SavePush(ctx, push, was)
			return err
		}
		ok, err = tx.SavePush(ctx, push, was)
		return err
	})
	return push, sealed, ok, err
}

// send sends a push and notes what came back. Contract: rules 3.2: it is
// delivered when the answer is the word success.
func (p *Pusher) send(ctx context.Context, push Push, sealed Sealed) {
	status, answer, err := p.Send(ctx, withQuery(push.URL, sealed.Query.Encode()), sealed.Body)
	was := push.NextAt
	push.Status, push.Answer, push.Fault = status, keep(answer), ""
	switch {
	case err != nil:
		push.Fault = err.Error()
	case status != http.StatusOK:
		push.Fault = "the answer's status is not 200"
	case strings.TrimSpace(string(answer)) != "success":
		push.Fault = "the answer is not the text success"
	default:
		push.Delivered, push.NextAt = true, time.Time{}
	}
	if push.NextAt.IsZero() {
		push.Sealed = ""
	} else {
		pause, _ := backOff(push.Attempts)
		push.NextAt = push.SentAt.Add(pause)
	}
	// It was sent: that is worth noting even while the server stops.
	ctx = context.WithoutCancel(ctx)
	if err := p.Directory.Store.UpdateAccounts(ctx, func(tx Tx) error {
		_, err := tx.SavePush(ctx, push, was)
		return err
	}); err != nil {
		p.Log.ErrorContext(ctx, "what became of a push could not be stored", "component", push.Component, "push", push.ID, "error", err)
	}
	if !push.Delivered {
		p.Log.WarnContext(ctx, "a push was not accepted", "component", push.Component, "push", push.ID, "info_type", push.InfoType,
			"attempt", push.Attempts, "status", status, "reason", push.Fault, "again", !push.NextAt.IsZero())
	}
}

func withQuery(address, query string) string {
	address, _, _ = strings.Cut(address, "#")
	if strings.Contains(address, "?") {
		return address + "&" + query
	}
	return address + "?" + query
}

// marks begin the texts that let somebody in.
var marks = []string{"ticket@@@", preAuthMark, authMark, refreshMark}

// keep is what is kept of an answer: printable, bounded, and without what a
// receiver may have sent back of the message.
func keep(answer []byte) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(string(answer[:min(len(answer), maxAnswer)]), "\x00", ""), "")
	for _, mark := range marks {
		if i := strings.Index(text, mark); i >= 0 {
			text = text[:i] + "[masked]"
		}
	}
	return text
}
