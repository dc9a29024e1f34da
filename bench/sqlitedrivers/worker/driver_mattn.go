//go:build mattn

package main

import (
	"net/url"

	_ "github.com/mattn/go-sqlite3"
)

const driverName = "sqlite3"

func writerDSN(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_txlock=immediate" +
		"&_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1"
}

func readerDSN(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=5000&_query_only=1"
}
