package chaos_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

var visibleSeed = fmt.Sprintf(`
accounts:
  - {appid: left, kind: mini_program, secret: %q, versions: [release]}
  - {appid: right, kind: mini_program, secret: %q, versions: [release]}
  - {appid: noise, kind: mini_program, secret: %q, versions: [release]}
settings: {rule_rate_limit: null, verification: trust, publish_quota: 1000000}
`, secretOf("left"), secretOf("right"), secretOf("noise"))

// TestChanges_VisibleOnOtherConnection verifies that a change which was acknowledged on one connection is visible to the next scan on
// another connection, under concurrent load.
func TestChanges_VisibleOnOtherConnection(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		srv := qrjumptest.Start(t, qrjumptest.Database(database), qrjumptest.Seed(visibleSeed))
		const prefix, link = "https://left.example/t/", "https://left.example/t/7"
		writes, scans := mustConnect(t, srv.URL, ""), mustConnect(t, srv.URL, "")
		token := writes.token("left")
		scans.scan(link) // dials
		load := startBackgroundLoad(t, srv.URL)
		times := choose(500, 60)
		for n := range times {
			page := fmt.Sprintf("pages/%d", n)
			writes.ok("qrcodejumpadd", token, add(prefix, page))
			writes.ok("qrcodejumppublish", token, prefixOnly(prefix))
			d := scans.scan(link)
			require.True(t, d.opens() && strings.HasPrefix(d.Path, page+"?q="),
				"interleaving %d: after a publish a scan %v, want the rule", n, d)
			writes.ok("qrcodejumpdelete", token, prefixOnly(prefix))
			d = scans.scan(link)
			require.True(t, !d.opens(), "interleaving %d: after a delete a scan %v, want no rule", n, d)
		}
		t.Logf("%d interleavings with %s", times, load())
		// Not the number of dials: a client that waits for its connection may close it itself.
		if writes, scans := writes.ended.Load(), scans.ended.Load(); writes != 0 || scans != 0 {
			t.Errorf("the server closed %d and %d connections, want none", writes, scans)
		}
	})
}

// startBackgroundLoad starts clients that write and scan until end is called, which describes their load.
func startBackgroundLoad(t *testing.T, base string) (end func() string) {
	var rounds atomic.Int64
	group := &clientGroup{t: t}
	t.Cleanup(group.stop)
	token := mustConnect(t, base, "").token("noise")
	for n := range 2 {
		// The same host and directory as the prefix of the test.
		prefix := fmt.Sprintf("https://left.example/t/noise%d", n)
		r := &racer{mustConnect(t, base, ""), "noise", token, mustConnect(t, base, "")}
		group.run(func() {
			ok, err := r.claim(prefix, prefix, false)
			assert.True(t, ok && err == nil, "claim of %s = %v, %v, want success", prefix, ok, err)
			assert.NoError(t, r.drop(prefix, prefix))
			rounds.Add(1)
		})
	}
	return func() string {
		group.stop()
		return fmt.Sprintf("%d writes and %d scans of other clients", 3*rounds.Load(), 3*rounds.Load())
	}
}

// racer is an owner that competes with another owner for overlapping prefixes.
type racer struct {
	mustConnection
	account string
	token   string
	scans   mustConnection // another connection
}

func newRacer(t *testing.T, base, account string) *racer {
	r := &racer{mustConnection: mustConnect(t, base, ""), account: account, scans: mustConnect(t, base, "")}
	r.token = r.mustConnection.token(account)
	return r
}

// race runs two functions concurrently. They return errors, because only the test's goroutine may end the test.
func race(t *testing.T, left, right func() error) {
	t.Helper()
	functions := []func() error{left, right}
	require.NoError(t, errors.Join(dbtest.Race(2, func(i int) error { return functions[i]() })...))
}

// claim adds and publishes a rule, and scans it on another connection after both calls. It reports whether the owner received the prefix.
func (r *racer) claim(prefix, link string, occupy bool) (ok bool, err error) {
	body := add(prefix, "pages/"+r.account)
	if occupy {
		body["permit_sub_rule"] = 2
	}
	added, err := r.wire("qrcodejumpadd", r.token, body)
	if err != nil || added.ErrCode == 85072 {
		return false, err
	}
	if added.ErrCode != 0 {
		return false, fmt.Errorf("%s: qrcodejumpadd(%s) = %d %s, want 0 or 85072", r.account, prefix, added.ErrCode, added.ErrMsg)
	}
	if d, err := r.scans.connection.scan(link); err != nil || d.AppID == r.account {
		return true, fmt.Errorf("%s added %s without a publish, and a scan of %s %v, %v, want another rule or none", r.account, prefix,
			link, d, err)
	}
	published, err := r.wire("qrcodejumppublish", r.token, prefixOnly(prefix))
	if err != nil || published.ErrCode != 0 {
		return true, fmt.Errorf("%s: qrcodejumppublish(%s) = %d %s, %v, want 0", r.account, prefix, published.ErrCode, published.ErrMsg,
			err)
	}
	d, err := r.scans.connection.scan(link)
	if err == nil && (!d.opens() || d.AppID != r.account) {
		err = fmt.Errorf("%s published %s, and a scan of %s %v, want the rule", r.account, prefix, link, d)
	}
	return true, err
}

// drop deletes a rule, and checks that a scan on another connection does not open it.
func (r *racer) drop(prefix, link string) error {
	deleted, err := r.wire("qrcodejumpdelete", r.token, prefixOnly(prefix))
	if err != nil || deleted.ErrCode != 0 {
		return fmt.Errorf("%s: qrcodejumpdelete(%s) = %d %s, %v, want 0", r.account, prefix, deleted.ErrCode, deleted.ErrMsg, err)
	}
	d, err := r.scans.connection.scan(link)
	if err == nil && d.AppID == r.account {
		err = fmt.Errorf("%s deleted %s, and a scan of %s %v, want another rule or none", r.account, prefix, link, d)
	}
	return err
}

// TestPrefix_RaceBetweenOwners has two owners race for one prefix, and for two prefixes of which one is below the other and possibly
// occupied.
func TestPrefix_RaceBetweenOwners(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		srv := qrjumptest.Start(t, qrjumptest.Database(database), qrjumptest.Seed(visibleSeed))
		left, right := newRacer(t, srv.URL, "left"), newRacer(t, srv.URL, "right")
		third := mustConnect(t, srv.URL, "")
		wins, below := map[string]int{}, 0
		races := choose(150, 24)
		for n := range races {
			host := fmt.Sprintf("https://race%d.example", n)
			var leftWon, rightWon bool
			race(t,
				func() (err error) { leftWon, err = left.claim(host+"/same/", host+"/same/1", false); return err },
				func() (err error) { rightWon, err = right.claim(host+"/same/", host+"/same/1", false); return err })
			require.True(t, leftWon != rightWon, "race %d for one prefix: left %v, right %v, want one winner", n, leftWon, rightWon)
			winner, loser := left, right
			if rightWon {
				winner, loser = right, left
			}
			wins[winner.account]++
			require.Equal(t, third.scan(host+"/same/2").AppID, winner.account, "the account that a scan opens in race %d", n)
			third.check(winner.drop(host+"/same/", host+"/same/1"))
			// A deleted prefix is available immediately.
			claimed, err := loser.claim(host+"/same/", host+"/same/1", false)
			require.True(t, err == nil && claimed, "race %d: %s could not add the prefix that %s deleted: %v", n, loser.account,
				winner.account, err)
			third.check(loser.drop(host+"/same/", host+"/same/1"))

			occupy := n%2 == 0
			race(t,
				func() (err error) { leftWon, err = left.claim(host+"/x/", host+"/x/1", occupy); return err },
				func() (err error) { rightWon, err = right.claim(host+"/x/y/", host+"/x/y/1", false); return err })
			require.True(t, leftWon && (occupy || rightWon),
				"race %d for x/ and x/y/, occupied: %v: left %v, right %v, want left, and right unless occupied", n, occupy, leftWon,
				rightWon)
			want := "left"
			if rightWon {
				want, below = "right", below+1
			}
			require.Equal(t, third.scan(host+"/x/y/2").AppID, want, "the account that a scan below opens in race %d", n)
			race(t,
				func() error { return left.drop(host+"/x/", host+"/x/1") },
				func() error {
					if !rightWon {
						return nil
					}
					return right.drop(host+"/x/y/", host+"/x/y/1")
				})
			d := third.scan(host + "/x/y/2")
			require.True(t, !d.opens(), "race %d: after all deletes a scan %v, want no rule", n, d)
		}
		t.Logf("%d races: %v; the child was added %d times", races, wins, below)
	})
}

// TestScanStream_SeesAcknowledgedChanges keeps a stream of scans open while rules change: each line after an acknowledged change must
// reflect it.
func TestScanStream_SeesAcknowledgedChanges(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		srv := qrjumptest.Start(t, qrjumptest.Database(database), qrjumptest.Seed(visibleSeed))
		writes := mustConnect(t, srv.URL, "")
		token := writes.token("left")
		const prefix = "https://left.example/s/"

		requests, body := io.Pipe()
		defer body.Close()
		responses := make(chan *http.Response, 1)
		go func() {
			resp, err := http.Post(srv.URL+"/scan/v1/resolve", "application/x-ndjson", requests)
			if err != nil {
				t.Error(err)
				requests.CloseWithError(err)
			}
			responses <- resp
		}()
		var lines *bufio.Reader
		scan := func() (d decision) {
			t.Helper()
			_, err := io.WriteString(body, `{"text":"`+prefix+`1"}`+"\n")
			require.NoError(t, err)
			if lines == nil {
				resp := <-responses
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
		require.True(t, !d.opens(), "before any rule a scan %v, want no rule", d)
		load := startBackgroundLoad(t, srv.URL)
		times := choose(200, 30)
		for n := range times {
			page := fmt.Sprintf("pages/%d", n)
			writes.ok("qrcodejumpadd", token, add(prefix, page))
			d := scan()
			require.True(t, !d.opens(), "change %d: before the publish the stream %v, want no rule", n, d)
			writes.ok("qrcodejumppublish", token, prefixOnly(prefix))
			d = scan()
			require.True(t, d.opens() && strings.HasPrefix(d.Path, page+"?q="),
				"change %d: after the publish the stream %v, want the rule", n, d)
			writes.ok("qrcodejumpdelete", token, prefixOnly(prefix))
			d = scan()
			require.True(t, !d.opens(), "change %d: after the delete the stream %v, want no rule", n, d)
		}
		t.Logf("%d changes visible to a stream with %s", 3*times, load())
	})
}
