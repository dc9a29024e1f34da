package chaos_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

var visibleSeed = fmt.Sprintf(`
accounts:
  - {appid: left, kind: mini_program, secret: %q, versions: [release]}
  - {appid: right, kind: mini_program, secret: %q, versions: [release]}
  - {appid: noise, kind: mini_program, secret: %q, versions: [release]}
settings: {rule_rate_limit: null, verification: trust, publish_quota: 1000000}
`, secretOf("left"), secretOf("right"), secretOf("noise"))

// TestChanges_VisibleOnOtherConnection: what was acknowledged on one connection is what a scan on
// another connection sees, at once, whatever others do.
func TestChanges_VisibleOnOtherConnection(t *testing.T) {
	eachBackend(t, func(t *testing.T, database string) {
		srv := inProcess(t, database, visibleSeed)
		const prefix, link = "https://left.example/t/", "https://left.example/t/7"
		writes, scans := must{connect(t, srv.URL, ""), t}, must{connect(t, srv.URL, ""), t}
		token := writes.token("left")
		scans.scan(link) // dials
		others := disturb(t, srv.URL)
		times := amount(500, 60)
		for n := range times {
			page := fmt.Sprintf("pages/%d", n)
			writes.ok("qrcodejumpadd", token, add(prefix, page))
			writes.ok("qrcodejumppublish", token, prefixOnly(prefix))
			d := scans.scan(link)
			require.True(t, d.opens() && strings.HasPrefix(d.Path, page+"?q="), "interleaving %d: published, but a scan %v", n, d)
			writes.ok("qrcodejumpdelete", token, prefixOnly(prefix))
			d = scans.scan(link)
			require.True(t, !d.opens(), "interleaving %d: deleted, but a scan %v", n, d)
		}
		t.Logf("%d interleavings, beside them %s", times, others())
		// Not how many were dialled: a client that was kept waiting for its turn
		// gives up a connection by itself.
		if writes, scans := writes.ended.Load(), scans.ended.Load(); writes != 0 || scans != 0 {
			t.Errorf("the server ended %d and %d connections", writes, scans)
		}
	})
}

// disturb lets others write and scan until the returned function is called,
// which says how much they did.
func disturb(t *testing.T, base string) (end func() string) {
	var stopped atomic.Bool
	var writes, scans atomic.Int64
	var all sync.WaitGroup
	end = func() string {
		stopped.Store(true)
		all.Wait()
		return fmt.Sprintf("%d writes and %d scans of others", writes.Load(), scans.Load())
	}
	t.Cleanup(func() { end() })
	first := must{connect(t, base, ""), t}
	token := first.token("noise")
	for n := range 2 {
		// The same host and directory, so that they work where the test does.
		prefix := fmt.Sprintf("https://left.example/t/noise%d", n)
		writer, reader := connect(t, base, ""), connect(t, base, "")
		all.Go(func() {
			for !stopped.Load() {
				for _, call := range []struct {
					name string
					body any
				}{{"qrcodejumpadd", add(prefix, "pages/noise")}, {"qrcodejumppublish", prefixOnly(prefix)},
					{"qrcodejumpdelete", prefixOnly(prefix)}} {
					got, err := writer.wire(call.name, token, call.body)
					if err != nil || got.ErrCode != 0 {
						t.Errorf("%s %s: %d %s %v", call.name, prefix, got.ErrCode, got.ErrMsg, err)
						return
					}
					d, err := reader.scan(prefix)
					if opens := call.name == "qrcodejumppublish"; err != nil || (d.AppID == "noise") != opens {
						t.Errorf("after %s a scan of %s %v %v", call.name, prefix, d, err)
						return
					}
					writes.Add(1)
					scans.Add(1)
				}
			}
		})
	}
	return end
}

// racer is an owner who races another for overlapping prefixes.
type racer struct {
	must
	account string
	token   string
	scans   must // another connection
}

func newRacer(t *testing.T, base, account string) *racer {
	r := &racer{must: must{connect(t, base, ""), t}, account: account, scans: must{connect(t, base, ""), t}}
	r.token = r.must.token(account)
	return r
}

// race lets both do something at the same time and waits for both. A fault
// is returned, because only the test's own goroutine may end the test.
func race(t *testing.T, left, right func() error) {
	t.Helper()
	var errs [2]error
	var all sync.WaitGroup
	all.Go(func() { errs[0] = left() })
	all.Go(func() { errs[1] = right() })
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

// take adds and publishes a rule, and scans it at once on another connection.
// It says whether the owner got the prefix.
func (r *racer) take(prefix, link string, occupy bool) (got bool, err error) {
	body := add(prefix, "pages/"+r.account)
	if occupy {
		body["permit_sub_rule"] = 2
	}
	added, err := r.wire("qrcodejumpadd", r.token, body)
	if err != nil || added.ErrCode == 85072 {
		return false, err
	}
	if added.ErrCode != 0 {
		return false, fmt.Errorf("%s adds %s: %d %s", r.account, prefix, added.ErrCode, added.ErrMsg)
	}
	published, err := r.wire("qrcodejumppublish", r.token, prefixOnly(prefix))
	if err != nil || published.ErrCode != 0 {
		return true, fmt.Errorf("%s publishes %s: %d %s %v", r.account, prefix, published.ErrCode, published.ErrMsg, err)
	}
	d, err := r.scans.connection.scan(link)
	if err == nil && (!d.opens() || d.AppID != r.account) {
		err = fmt.Errorf("%s published %s, but a scan of %s %v", r.account, prefix, link, d)
	}
	return true, err
}

// drop deletes a rule, and a scan on another connection must not open it.
func (r *racer) drop(prefix, link string) error {
	deleted, err := r.wire("qrcodejumpdelete", r.token, prefixOnly(prefix))
	if err != nil || deleted.ErrCode != 0 {
		return fmt.Errorf("%s deletes %s: %d %s %v", r.account, prefix, deleted.ErrCode, deleted.ErrMsg, err)
	}
	d, err := r.scans.connection.scan(link)
	if err == nil && d.opens() && d.AppID == r.account {
		err = fmt.Errorf("%s deleted %s, but a scan of %s %v", r.account, prefix, link, d)
	}
	return err
}

// TestPrefix_RaceBetweenOwners lets two owners race for one prefix, and for two
// prefixes of which one lies below the other and may be occupied.
func TestPrefix_RaceBetweenOwners(t *testing.T) {
	eachBackend(t, func(t *testing.T, database string) {
		srv := inProcess(t, database, visibleSeed)
		left, right := newRacer(t, srv.URL, "left"), newRacer(t, srv.URL, "right")
		third := must{connect(t, srv.URL, ""), t}
		wins, below := map[string]int{}, 0
		races := amount(150, 24)
		for n := range races {
			host := fmt.Sprintf("https://race%d.example", n)
			var leftWon, rightWon bool
			race(t,
				func() (err error) { leftWon, err = left.take(host+"/same/", host+"/same/1", false); return err },
				func() (err error) { rightWon, err = right.take(host+"/same/", host+"/same/1", false); return err })
			require.True(t, leftWon != rightWon, "race %d for one prefix: left %v, right %v", n, leftWon, rightWon)
			winner, loser := left, right
			if rightWon {
				winner, loser = right, left
			}
			wins[winner.account]++
			require.Equal(t, third.scan(host+"/same/2").AppID, winner.account, "race %d", n)
			third.check(winner.drop(host+"/same/", host+"/same/1"))
			// A freed prefix is free at once.
			taken, err := loser.take(host+"/same/", host+"/same/1", false)
			require.True(t, err == nil && taken, "race %d: %s could not have what %s gave up: %v", n, loser.account, winner.account, err)
			third.check(loser.drop(host+"/same/", host+"/same/1"))

			occupy := n%2 == 0
			race(t,
				func() (err error) { leftWon, err = left.take(host+"/x/", host+"/x/1", occupy); return err },
				func() (err error) { rightWon, err = right.take(host+"/x/y/", host+"/x/y/1", false); return err })
			require.True(t, leftWon && (occupy || rightWon),
				"race %d for x/ and x/y/, occupied: %v: left %v, right %v", n, occupy, leftWon, rightWon)
			want := "left"
			if rightWon {
				want, below = "right", below+1
			}
			require.Equal(t, third.scan(host+"/x/y/2").AppID, want, "race %d", n)
			race(t,
				func() error { return left.drop(host+"/x/", host+"/x/1") },
				func() error {
					if !rightWon {
						return nil
					}
					return right.drop(host+"/x/y/", host+"/x/y/1")
				})
			d := third.scan(host + "/x/y/2")
			require.True(t, !d.opens(), "race %d: all deleted, but a scan %v", n, d)
		}
		t.Logf("%d races: %v; below the other's rule %d times", races, wins, below)
	})
}

// TestScanStream_SeesAcknowledgedChanges keeps one stream of scans open while rules change:
// each line after an acknowledged change is answered with it.
func TestScanStream_SeesAcknowledgedChanges(t *testing.T) {
	eachBackend(t, func(t *testing.T, database string) {
		srv := inProcess(t, database, visibleSeed)
		writes := must{connect(t, srv.URL, ""), t}
		token := writes.token("left")
		const prefix = "https://left.example/s/"

		questions, ask := io.Pipe()
		defer ask.Close()
		answers := make(chan *http.Response, 1)
		go func() {
			resp, err := http.Post(srv.URL+"/scan/v1/resolve", "application/x-ndjson", questions)
			if err != nil {
				t.Error(err)
				questions.CloseWithError(err)
			}
			answers <- resp
		}()
		var lines *bufio.Reader
		scan := func() (d decision) {
			t.Helper()
			_, err := io.WriteString(ask, `{"text":"`+prefix+`1"}`+"\n")
			require.NoError(t, err)
			if lines == nil {
				resp := <-answers
				require.True(t, resp != nil, "no response")
				t.Cleanup(func() { resp.Body.Close() })
				lines = bufio.NewReader(resp.Body)
			}
			line, err := lines.ReadBytes('\n')
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(line, &d))
			return d
		}

		d := scan()
		require.True(t, !d.opens(), "before any rule: %v", d)
		others := disturb(t, srv.URL)
		times := amount(200, 30)
		for n := range times {
			page := fmt.Sprintf("pages/%d", n)
			writes.ok("qrcodejumpadd", token, add(prefix, page))
			d := scan()
			require.True(t, !d.opens(), "change %d: not published, but the stream %v", n, d)
			writes.ok("qrcodejumppublish", token, prefixOnly(prefix))
			d = scan()
			require.True(t, d.opens() && strings.HasPrefix(d.Path, page+"?q="), "change %d: published, but the stream %v", n, d)
			writes.ok("qrcodejumpdelete", token, prefixOnly(prefix))
			d = scan()
			require.True(t, !d.opens(), "change %d: deleted, but the stream %v", n, d)
		}
		t.Logf("%d changes seen by one stream, beside them %s", 3*times, others())
	})
}
