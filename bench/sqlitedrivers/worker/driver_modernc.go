//go:build !ncruces && !mattn

package main

import (
	"net/url"

	_ "modernc.org/sqlite"
)

const driverName = "sqlite"

// The short keys are checked when a connection opens; a mistake in _pragma=... passes unnoticed.
func writerDSN(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_txlock=immediate" +
		"&_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1"
}

func readerDSN(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=5000&_query_only=1"
}
