package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
)

// An event is sent five times; its last failure is told as such.
func TestAnEventIsGivenUpAfterItsLastTry(t *testing.T) {
	w := newWorld(t)
	put := func(address string) {
		t.Helper()
		err := w.Put(t.Context(), accounts.Registration{Account: accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount, Certified: true, MessageURL: address}})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("http://h.example/")
	q, err := w.CreateQRCode(t.Context(), accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount, Certified: true},
		accounts.QRDraft{Action: accounts.QRTextForEver, Text: new("x")})
	if err != nil {
		t.Fatal(err)
	}
	scan := func() {
		t.Helper()
		if err := w.ScannedCode(t.Context(), q.URL(), func(string) string { return "o1" }, begin); err != nil {
			t.Fatal(err)
		}
	}
	scan()
	refused := errors.New("refused")
	sends := 0
	try := func(ctx context.Context, result error) (bool, *accounts.Unsent) {
		t.Helper()
		sent, err := w.SendMessage(ctx, "wxs", func(_ context.Context, address string, body []byte) error {
			sends++
			if address != "http://h.example/" || !strings.Contains(string(body), q.Ticket) {
				t.Errorf("sent to %s: %s", address, body)
			}
			return result
		})
		failed, _ := errors.AsType[*accounts.Unsent](err)
		if err != nil && failed == nil {
			t.Fatal(err)
		}
		return sent, failed
	}
	for n := 1; n <= accounts.MessageTries; n++ {
		sent, failed := try(t.Context(), refused)
		if !sent || failed == nil || failed.Tries != n || failed.GaveUp != (n == accounts.MessageTries) || !errors.Is(failed, refused) {
			t.Fatalf("try %d: %t, %v", n, sent, failed)
		}
		if sent, _ := try(t.Context(), nil); sent {
			t.Fatalf("after try %d the next came at once", n)
		}
		w.mu.Lock()
		w.now = w.now.Add(time.Hour)
		w.mu.Unlock()
	}
	if sent, _ := try(t.Context(), nil); sent || sends != accounts.MessageTries {
		t.Errorf("%d sends", sends)
	}

	// A stop of the server is no failure of the receiver.
	scan()
	stopping, stop := context.WithCancel(t.Context())
	if _, err := w.SendMessage(stopping, "wxs", func(context.Context, string, []byte) error { stop(); return refused }); err == nil {
		t.Error("an interrupted send is no error")
	}
	if _, failed := try(t.Context(), refused); failed == nil || failed.Tries != 1 {
		t.Errorf("after a stop: %v", failed)
	}

	// What nobody wants any more is dropped.
	scan()
	put("")
	for range 2 {
		w.mu.Lock()
		w.now = w.now.Add(time.Hour)
		w.mu.Unlock()
		try(t.Context(), errors.New("it was sent"))
	}
	if due, err := w.MessagesDue(t.Context(), 10); err != nil || len(due) != 0 {
		t.Errorf("due: %v, %v", due, err)
	}
}

// A message URL that is gone keeps no more than so many events waiting.
func TestEventsThatNobodyTakesDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Now = time.Now
		service := accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount, Certified: true, MessageURL: "http://gone.example/"}
		if err := w.Put(t.Context(), accounts.Registration{Account: service}); err != nil {
			t.Fatal(err)
		}
		q := must[accounts.QRCode](t)(w.CreateQRCode(t.Context(), service, accounts.QRDraft{Action: accounts.QRTextForEver, Text: new("x")}))
		m := accounts.NewMessenger(w.Directory, slog.New(slog.NewTextHandler(t.Output(), nil)), time.Now, func(context.Context, string, []byte) error {
			time.Sleep(5 * time.Second)
			return errors.New("timeout")
		})
		m.Most = 10
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.Run(ctx, time.Second) }()
		for n := range 100 {
			if err := w.ScannedCode(t.Context(), q.URL(), func(string) string { return fmt.Sprint("o", n) }, time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		same(t, "given up later than by the messenger", must[int](t)(w.GiveUpMessages(t.Context(), "wxs", 10)), 0)
		same(t, "kept", must[int](t)(w.GiveUpMessages(t.Context(), "wxs", 0)) > 5, true)
		stop()
		<-done
	})
}
