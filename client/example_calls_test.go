package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// The verification file of an account must be readable below its prefix before the rule is added, unless the operator trusts the host.
func ExampleWireService_GetVerificationFile() {
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	file, err := shop.Wire.GetVerificationFile(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	// The file of the prefix https://tea.example/t/ is https://tea.example/t/NAME.
	fmt.Println(strings.HasSuffix(file.Name, ".txt"), len(file.Content))
	// Output: true 32
}

// ListAllRules reads every page of an account's rules.
func ExampleWireService_ListAllRules() {
	shop, err := client.New(url, client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	list, err := shop.Wire.ListAllRules(context.Background(), "")
	if err != nil {
		log.Fatal(err)
	}
	for _, rule := range list.Rules {
		fmt.Println(rule.Prefix, rule.Path, rule.Published)
	}
	// Output:
	// https://coffee.example/t/ pages/table/table true
	// https://coffee.example/menu pages/menu/menu false
}

// ResolveStream sends many scans over one connection. The decisions are in the order of the scans.
func ExampleScansService_ResolveStream() {
	app, err := client.New(url, client.Options{}) // with a ScanKey if the server requires one
	if err != nil {
		log.Fatal(err)
	}
	scans := []client.ScanRequest{{Text: "https://coffee.example/t/7", User: "u-1"}, {Text: "https://nobody.example/"}, {Text: "hello"}}
	for d, err := range app.Scans.ResolveStream(context.Background(), slices.Values(scans)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Action, d.AppID == "wxc0ffee0000000001")
	}
	// Output:
	// open_mini_program true
	// open_url false
	// show_text false
}

// Rows decrypts the package of a segment with the account's key. Each row has the dot matrix, the code, its index and the text to print.
func ExampleRows() {
	ctx := context.Background()
	brand, err := client.New(url, client.Options{AppID: "wxc0ffee0000000002", Secret: "c0ffee00000000000000000000000002"})
	if err != nil {
		log.Fatal(err)
	}
	id, err := brand.Wire.ApplyCodes(ctx, 10_000, "order-1")
	if err != nil {
		log.Fatal(err)
	}
	pkg, err := brand.Wire.DownloadCodes(ctx, id, client.CodeRange{From: 0, To: 99})
	if err != nil {
		log.Fatal(err)
	}
	defer pkg.Close()
	rows, err := client.Rows(pkg, "0123456789abcdef")
	if err != nil {
		log.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(rows); lines.Scan(); n++ {
		if columns := strings.Fields(lines.Text()); n == 0 {
			fmt.Println(len(columns[0]), len(columns[1]), columns[2])
		}
	}
	fmt.Println(n, "codes")
	// Output:
	// 361 9 0
	// 100 codes
}

// The error has the address of the server that does not respond.
func ExampleUnreachable() {
	c, err := client.New("http://127.0.0.1:1", client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Wire.GetVerificationFile(context.Background())
	if unreachable, ok := errors.AsType[*client.Unreachable](err); ok {
		fmt.Println("start qrjump:", unreachable.URL)
	}
	// Output: start qrjump: http://127.0.0.1:1
}
