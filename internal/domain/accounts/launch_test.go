package accounts_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestLaunchAddress_SchemeTemplate(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[string]string{
		"app://{appid}/{path}?{query}": "app://a%2Fb/p%2Fq%20r?x%3D%7Bpath%7D%26y%3D%2520", "app:open": "app:open", "": "", "https://x": "",
	} {
		got, ok := accounts.Account{AppID: "a/b", URLScheme: scheme}.LaunchAddress("p/q r?x={path}&y=%20")
		assert.True(t, ok == (want != "") && got == want, "%q: %q %v", scheme, got, ok)
	}
}
