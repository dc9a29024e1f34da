package silenceper_test

import (
	"image/jpeg"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount/basic"
	official "github.com/silenceper/wechat/v2/officialaccount/config"

	"github.com/qrjump/qrjump/compat/harness"
)

var codeURL = regexp.MustCompile(`^http://weixin\.qq\.com/q/02[0-9A-Za-z_-]+$`)

// Contract: clients 6: this library treats any errmsg as an error, even that of a success; showqrcode: it sends the ticket
// unmodified.
func TestParametricCodes_CreateAndShow(t *testing.T) {
	s := harness.Start(t)
	redirect(t, s)
	account := wechat.NewWechat().GetOfficialAccount(&official.Config{
		AppID: harness.ServiceAcct, AppSecret: harness.ServiceAcctSecret, Cache: cache.NewMemory(),
	}).GetBasic()
	for _, c := range []struct {
		name    string
		request *basic.Request
		life    int64
	}{
		{"a temporary number", basic.NewTmpQrRequest(10*time.Minute, 7), 600},
		{"a temporary text", basic.NewTmpQrRequest(time.Minute, "door"), 60},
		{"a permanent number", basic.NewLimitQrRequest(7), 0},
		{"a permanent text", basic.NewLimitQrRequest("door"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ticket, err := account.GetQRTicket(c.request)
			if err != nil {
				t.Fatal(err)
			}
			if ticket.Ticket == "" || ticket.ExpireSeconds != c.life || !codeURL.MatchString(ticket.URL) {
				t.Errorf("got %+v, want a life of %d s", ticket, c.life)
			}
			resp, err := http.Get(strings.Replace(basic.ShowQRCode(ticket), "https://mp.weixin.qq.com", s.URL, 1))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "image/jpeg" {
				t.Fatalf("the picture: %s, %s", resp.Status, resp.Header.Get("Content-Type"))
			}
			picture, err := jpeg.DecodeConfig(resp.Body)
			if err != nil || picture.Width != 430 || picture.Height != 430 {
				t.Errorf("got %+v, %v, want 430×430", picture, err)
			}
		})
	}
	if _, err := account.GetQRTicket(basic.NewLimitQrRequest(100_001)); err == nil || !strings.Contains(err.Error(), "errcode=40053") {
		t.Errorf("got %v for a scene above 100,000, want 40053", err)
	}
}
