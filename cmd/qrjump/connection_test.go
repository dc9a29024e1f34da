package main

import (
	"os"
	"testing"
)

func TestTheOperatorsTokenStaysHere(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"qrjump-data", "named"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/admin-token", []byte("from "+dir+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for server, found := range map[string]string{
		"http://127.0.0.1:8080": "from qrjump-data", "http://localhost": "from qrjump-data", "http://[::1]:1": "from qrjump-data",
		"https://qrjump.example": "", "http://127.0.0.1.example": "", "http://10.0.0.1": "", "https://api.weixin.qq.com": "",
	} {
		for flags, want := range map[adminFlags]string{
			{}:                                   found,
			{Data: "named"}:                      "from named",
			{Data: "missing"}:                    "",
			{AdminToken: "given", Data: "named"}: "given",
		} {
			if got, err := flags.token(server); err != nil || got != want {
				t.Errorf("%s with %+v: got %q, %v, want %q", server, flags, got, err, want)
			}
		}
	}
}

func TestThePlatformSeesNoOperatorsToken(t *testing.T) {
	for server, want := range map[string]bool{
		"https://api.weixin.qq.com": true, "https://weixin.qq.com": true, "https://api.weixin.qq.com:443": true,
		"https://notweixin.qq.com": false, "http://127.0.0.1:8080": false,
	} {
		if got := isPlatform(server); got != want {
			t.Errorf("%s: got %v", server, got)
		}
	}
}
