package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

// A rule is added and published by the Mini Program's credentials; then a scan
// of a link below it opens the page.
func Example() {
	url, stop := demo()
	defer stop()

	shop, err := client.New(url, client.Options{AppID: "wxminiprogram0001", Secret: "secret0001"})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := shop.AddRule(ctx, client.RuleDraft{Prefix: "https://tea.example/t/", Path: "pages/table/table"}); err != nil {
		log.Fatal(err)
	}
	if err := shop.PublishRule(ctx, "https://tea.example/t/"); err != nil {
		log.Fatal(err)
	}
	d, err := shop.Resolve(ctx, client.ScanRequest{Text: "https://tea.example/t/7", User: "u-1"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Action, d.AppID, d.Version, d.Matched.Prefix)
	// Output: open_mini_program wxminiprogram0001 release https://tea.example/t/
}

// demo runs a server with the demo accounts, like qrjump serve --dev.
func demo() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	c := server.Default()
	c.Data, c.Listen, c.Dev = dir, "127.0.0.1:0", true
	s, err := server.Start(context.Background(), c, io.Discard, server.Seams{})
	if err != nil {
		log.Fatal(err)
	}
	return s.URL, func() {
		if err := s.Close(); err != nil {
			log.Print(err)
		}
		os.RemoveAll(dir)
	}
}
